from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.linux.links import fd_path, link_fd


def test_link_fd_names_a_file_without_a_name(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY)
    try:
        os.write(fd, b"content")
        link_fd(fd, directory, b"name\xff")
    finally:
        os.close(fd)
        os.close(directory)
    assert (tmp_path / os.fsdecode(b"name\xff")).read_bytes() == b"content"


def test_link_fd_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("old")
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY)
    try:
        with pytest.raises(FileExistsError) as caught:
            link_fd(fd, directory, b"taken")
    finally:
        os.close(fd)
        os.close(directory)
    assert caught.value.filename == b"taken"
    assert (tmp_path / "taken").read_text() == "old"


def test_fd_path_leads_to_the_open_file_after_a_rename(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("content")
    fd = os.open(tmp_path / "old", os.O_PATH)
    try:
        (tmp_path / "old").rename(tmp_path / "new")
        assert Path(os.fsdecode(fd_path(fd))).read_text() == "content"
    finally:
        os.close(fd)
