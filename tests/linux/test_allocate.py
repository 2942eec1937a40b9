from __future__ import annotations

import errno
from pathlib import Path

import pytest

from unionfs.linux.allocate import FALLOC_FL_ALLOCATE_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, fallocate


def test_allocation_extends_the_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        fallocate(file.fileno(), FALLOC_FL_ALLOCATE_RANGE, 0, 8192)
    assert (tmp_path / "file").stat().st_size == 8192


def test_keep_size_allocates_beyond_the_end(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        fallocate(file.fileno(), FALLOC_FL_KEEP_SIZE, 0, 8192)
    assert (tmp_path / "file").stat().st_size == 0
    assert (tmp_path / "file").stat().st_blocks >= 16


def test_punched_hole_reads_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3 * 4096)
    with path.open("r+b") as file:
        fallocate(file.fileno(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096)
    assert path.read_bytes() == b"x" * 4096 + bytes(4096) + b"x" * 4096


def test_file_open_for_reading_is_ebadf(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file, pytest.raises(OSError, match="Bad file descriptor") as caught:
        fallocate(file.fileno(), FALLOC_FL_ALLOCATE_RANGE, 0, 1)
    assert caught.value.errno == errno.EBADF
