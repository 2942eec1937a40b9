from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from unionfs.linux.mount import MNT_DETACH, MS_NODEV, MS_NOSUID, UMOUNT_NOFOLLOW, clone_private, mount, umount
from unionfs.linux.mountinfo import read_mountinfo


def test_mounted_filesystem_has_its_flags_until_umount(tmp_path: Path) -> None:
    mount(b"scratch", bytes(tmp_path), b"tmpfs", MS_NOSUID | MS_NODEV, b"size=1m")
    try:
        (found,) = (m for m in read_mountinfo() if m.mount_point == tmp_path)
        assert {"nosuid", "nodev"} <= set(found.options.split(","))
        assert "size=1024k" in found.super_options.split(",")
    finally:
        umount(bytes(tmp_path), UMOUNT_NOFOLLOW)
    assert not tmp_path.is_mount()


def test_unknown_filesystem_type_is_enodev(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such device") as caught:
        mount(b"none", bytes(tmp_path), b"no-such-type", 0, b"")
    assert caught.value.errno == errno.ENODEV
    assert caught.value.filename == bytes(tmp_path)


def test_umount_of_a_plain_directory_is_einval(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        umount(bytes(tmp_path), 0)
    assert caught.value.errno == errno.EINVAL


def test_clone_reads_what_the_mount_shows(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("content")
    fd = clone_private(bytes(tmp_path))
    try:
        file = os.open(b"sub/file", os.O_RDONLY, dir_fd=fd)
        assert os.read(file, 100) == b"content"
        os.close(file)
        listing = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        assert os.listdir(listing) == ["sub"]
        os.close(listing)
    finally:
        os.close(fd)


def test_clone_is_read_only(tmp_path: Path) -> None:
    fd = clone_private(bytes(tmp_path))
    try:
        with pytest.raises(OSError, match="Read-only file system") as caught:
            os.mkdir(b"new", dir_fd=fd)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EROFS
    (tmp_path / "still-writable").touch()


def test_reading_through_a_clone_leaves_atime_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    os.utime(tmp_path / "file", (1, 2))
    fd = clone_private(bytes(tmp_path))
    try:
        file = os.open(b"file", os.O_RDONLY, dir_fd=fd)
        os.read(file, 100)
        os.close(file)
    finally:
        os.close(fd)
    assert (tmp_path / "file").stat().st_atime == 1


def test_clone_does_not_see_what_is_mounted_below(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "covered").touch()
    mount(b"scratch", bytes(below), b"tmpfs", 0, b"size=1m")
    try:
        fd = clone_private(bytes(tmp_path))
        try:
            assert stat.S_ISREG(os.stat(b"below/covered", dir_fd=fd).st_mode)
        finally:
            os.close(fd)
    finally:
        umount(bytes(below), MNT_DETACH)


def test_clone_lives_as_long_as_something_in_it_is_open(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("content")
    fd = clone_private(bytes(tmp_path))
    sub = os.open(b"sub", os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
    os.close(fd)
    try:
        file = os.open(b"file", os.O_RDONLY, dir_fd=sub)
        assert os.read(file, 100) == b"content"
        os.close(file)
    finally:
        os.close(sub)


def test_clone_of_a_missing_directory_is_named(tmp_path: Path) -> None:
    missing = bytes(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as caught:
        clone_private(missing)
    assert caught.value.filename == missing


def test_clone_of_a_file_is_enotdir(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        clone_private(bytes(tmp_path / "file"))
