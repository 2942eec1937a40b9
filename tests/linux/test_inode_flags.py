from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.linux.inode_flags import (
    FS_NOATIME_FL,
    FS_NODUMP_FL,
    FS_XFLAG_NODUMP,
    get_flags,
    get_fsxattr,
    set_flags,
    set_fsxattr,
)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(b"data")
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def test_flags_are_those_that_lsattr_shows(fd: int, tmp_path: Path) -> None:
    set_flags(fd, get_flags(fd) | FS_NODUMP_FL | FS_NOATIME_FL)
    shown = subprocess.run(["lsattr", tmp_path / "file"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert {"d", "A"} <= set(shown)
    set_flags(fd, get_flags(fd) & ~FS_NODUMP_FL)
    assert get_flags(fd) & (FS_NODUMP_FL | FS_NOATIME_FL) == FS_NOATIME_FL


def test_both_forms_show_the_same_flag(fd: int) -> None:
    before = get_fsxattr(fd)
    set_fsxattr(fd, (before[0] | FS_XFLAG_NODUMP, *before[1:]))
    assert get_fsxattr(fd)[0] == before[0] | FS_XFLAG_NODUMP
    assert get_flags(fd) & FS_NODUMP_FL


def test_filesystem_without_flags_refuses() -> None:
    with open("/proc/self/stat", "rb") as file, pytest.raises(OSError, match="ioctl") as caught:
        get_flags(file.fileno())
    assert caught.value.errno == errno.ENOTTY
