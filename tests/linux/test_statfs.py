from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from unionfs.linux.mount import mount, umount
from unionfs.linux.statfs import OVERLAYFS_SUPER_MAGIC, PROC_SUPER_MAGIC, TMPFS_MAGIC, filesystem_type


def _type_of(path: Path) -> int:
    fd = os.open(path, os.O_PATH)
    try:
        return filesystem_type(fd)
    finally:
        os.close(fd)


def test_proc_is_recognised() -> None:
    assert _type_of(Path("/proc")) == PROC_SUPER_MAGIC


def test_tmpfs_is_recognised(tmp_path: Path) -> None:
    mount(b"scratch", bytes(tmp_path), b"tmpfs", 0, b"size=1m")
    try:
        assert _type_of(tmp_path) == TMPFS_MAGIC
    finally:
        umount(bytes(tmp_path), 0)


def test_kernel_overlay_is_recognised(tmp_path: Path) -> None:
    for name in ("a", "b", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path / 'a'}:{tmp_path / 'b'}".encode()
    mount(b"overlay", bytes(tmp_path / "merged"), b"overlay", 0, options)
    try:
        assert _type_of(tmp_path / "merged") == OVERLAYFS_SUPER_MAGIC
    finally:
        umount(bytes(tmp_path / "merged"), 0)


def test_closed_descriptor_is_ebadf() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        filesystem_type(-1)
    assert caught.value.errno == errno.EBADF
