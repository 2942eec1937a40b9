from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.linux.handles import AT_EMPTY_PATH, name_to_handle_at, open_by_handle_at


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_handle_opens_the_file_after_a_rename(directory: int, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("content")
    kind, fid = name_to_handle_at(directory, b"old")
    (tmp_path / "old").rename(tmp_path / "new")
    fd = open_by_handle_at(directory, kind, fid, os.O_RDONLY)
    try:
        assert os.read(fd, 100) == b"content"
    finally:
        os.close(fd)


def test_both_names_of_an_inode_have_one_handle(directory: int, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").touch()
    assert name_to_handle_at(directory, b"a") == name_to_handle_at(directory, b"b")
    assert name_to_handle_at(directory, b"a") != name_to_handle_at(directory, b"c")


def test_empty_path_means_the_descriptor_itself(directory: int, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    sub = os.open(tmp_path / "sub", os.O_PATH)
    try:
        assert name_to_handle_at(sub, b"", AT_EMPTY_PATH) == name_to_handle_at(directory, b"sub")
    finally:
        os.close(sub)


def test_symbolic_link_is_not_followed(directory: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("missing")
    kind, fid = name_to_handle_at(directory, b"link")
    fd = open_by_handle_at(directory, kind, fid, os.O_PATH | os.O_NOFOLLOW)
    try:
        assert os.readlink(b"", dir_fd=fd) == b"missing"
    finally:
        os.close(fd)


def test_handle_of_a_removed_file_is_stale(directory: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kind, fid = name_to_handle_at(directory, b"file")
    (tmp_path / "file").unlink()
    with pytest.raises(OSError, match="Stale file handle") as caught:
        open_by_handle_at(directory, kind, fid, os.O_RDONLY)
    assert caught.value.errno == errno.ESTALE


def test_missing_name_is_named(directory: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        name_to_handle_at(directory, b"none")
    assert caught.value.filename == b"none"


def test_too_long_handle_is_refused(directory: int) -> None:
    with pytest.raises(ValueError, match="at most 128 bytes, this one has 129"):
        open_by_handle_at(directory, 1, bytes(129), os.O_RDONLY)
