from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_rename_replaces_without_flags(directory: int, tmp_path: Path) -> None:
    renameat2(directory, b"a", directory, b"b", 0)
    assert (tmp_path / "b").read_text() == "a"
    assert not (tmp_path / "a").exists()


def test_noreplace_refuses_an_existing_name(directory: int, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError) as caught:
        renameat2(directory, b"a", directory, b"b", RENAME_NOREPLACE)
    assert (caught.value.filename, caught.value.filename2) == (b"a", b"b")
    assert (tmp_path / "b").read_text() == "b"


def test_exchange_swaps_two_names(directory: int, tmp_path: Path) -> None:
    renameat2(directory, b"a", directory, b"b", RENAME_EXCHANGE)
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("b", "a")


def test_whiteout_takes_the_old_name(directory: int, tmp_path: Path) -> None:
    renameat2(directory, b"a", directory, b"c", RENAME_WHITEOUT)
    whiteout = (tmp_path / "a").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0


def test_contradictory_flags_are_einval(directory: int) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        renameat2(directory, b"a", directory, b"b", RENAME_NOREPLACE | RENAME_EXCHANGE)
    assert caught.value.errno == errno.EINVAL


def test_missing_source_is_file_not_found(directory: int) -> None:
    with pytest.raises(FileNotFoundError):
        renameat2(directory, b"none", directory, b"b", 0)
