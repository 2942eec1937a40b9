"""Layers on a filesystem that can do what ext4 cannot: tmpfs has extended attributes of any size."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import Backend

from .layers import Dir, File, Tree
from .union import Layers, Mounted, Union

LARGEST = 64 * 1024
"""XATTR_SIZE_MAX: no larger value gets past the kernel."""
VALUE = bytes(range(256)) * (LARGEST // 256)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "tmpfs"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True, timeout=60)
    yield directory
    subprocess.run(["umount", directory], check=True, timeout=60)


@pytest.fixture
def union_on_tmpfs(tmpfs: Path, backend: Backend) -> Iterator[Union]:
    mounted = Mounted(backend, tmpfs, 1)
    tree: Tree = {"f": File(b"data", xattrs={"trusted.large": VALUE}), "d": Dir(), "new": File()}
    union = Union.in_mount(mounted, Layers.of_marker(tree))
    mounted.mount()
    yield union
    mounted.umount()
    assert union.changed_in_lowers() == []


def test_largest_values_are_read_set_and_copied_up(union_on_tmpfs: Union) -> None:
    merged = union_on_tmpfs.merged
    assert os.getxattr(merged / "f", "trusted.large") == VALUE
    (merged / "f").chmod(0o600)
    assert os.getxattr(union_on_tmpfs.upper / "f", "trusted.large") == VALUE
    for name in ("f", "d", "new"):
        os.setxattr(merged / name, b"trusted.\xff\xfe", VALUE[::-1])
        assert os.getxattr(merged / name, b"trusted.\xff\xfe") == VALUE[::-1]
        os.setxattr(merged / name, b"trusted.\xff\xfe", b"short")
        assert os.getxattr(union_on_tmpfs.upper / name, b"trusted.\xff\xfe") == b"short"


def test_many_names_are_listed(union_on_tmpfs: Union) -> None:
    names = [f"trusted.{number:0240}" for number in range(200)]
    for name in names:
        os.setxattr(union_on_tmpfs.merged / "new", name, b"")
    assert sorted(os.listxattr(union_on_tmpfs.merged / "new")) == names
