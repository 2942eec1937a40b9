"""Flags of chattr(1), and the time of birth."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.overlay.client import ROOT
from tests.overlay.conftest import Open
from unionfs.filesystem import ROOT_ID
from unionfs.linux.inode_flags import (
    FS_APPEND_FL,
    FS_IMMUTABLE_FL,
    FS_NOATIME_FL,
    FS_NODUMP_FL,
    FS_XFLAG_APPEND,
    FS_XFLAG_IMMUTABLE,
    FS_XFLAG_NODUMP,
    get_flags,
    set_flags,
)
from unionfs.linux.statx import birth_time


def flags_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return get_flags(fd)
    finally:
        os.close(fd)


def add_flags(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        set_flags(fd, get_flags(fd) | flags)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["f", "d"])
def test_are_read_from_the_lower_object_and_set_on_its_copy(open_union: Open, tmp_path: Path, name: str) -> None:
    client = open_union({"f": b"lower", "d": None})
    add_flags(tmp_path / "lower0" / name, FS_NODUMP_FL)
    node = client.node(name)
    flags = client.union.get_flags(node)
    assert flags & FS_NODUMP_FL
    assert not (tmp_path / "upper" / name).exists()
    client.call(client.union.set_flags, node, flags & ~FS_NODUMP_FL | FS_NOATIME_FL)
    assert flags_of(tmp_path / "upper" / name) & (FS_NODUMP_FL | FS_NOATIME_FL) == FS_NOATIME_FL
    assert client.union.get_flags(node) & (FS_NODUMP_FL | FS_NOATIME_FL) == FS_NOATIME_FL
    assert flags_of(tmp_path / "lower0" / name) & FS_NODUMP_FL


def test_both_forms_reach_the_same_object(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    found = client.union.get_extended_flags(node)
    client.call(client.union.set_extended_flags, node, found._replace(xflags=found.xflags | FS_XFLAG_NODUMP))
    assert client.union.get_extended_flags(node).xflags & FS_XFLAG_NODUMP
    assert flags_of(tmp_path / "upper/f") & FS_NODUMP_FL


@pytest.mark.parametrize("flag", [FS_IMMUTABLE_FL, FS_APPEND_FL])
def test_protecting_flags_are_refused_before_anything_is_copied_up(open_union: Open, tmp_path: Path, flag: int) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    with pytest.raises(OSError, match="immutable") as caught:
        client.union.set_flags(node, flag)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert os.listdir(tmp_path / "upper") == []


@pytest.mark.parametrize("xflag", [FS_XFLAG_IMMUTABLE, FS_XFLAG_APPEND])
def test_protecting_flags_are_refused_in_the_other_form(open_union: Open, xflag: int) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    found = client.union.get_extended_flags(node)
    with pytest.raises(OSError, match="immutable"):
        client.union.set_extended_flags(node, found._replace(xflags=found.xflags | xflag))


def test_removed_objects_that_are_open_keep_theirs(open_union: Open) -> None:
    client = open_union({})
    client.write("f", b"data")
    client.mkdir("d")
    for name, remove in (("f", client.unlink), ("d", client.rmdir)):
        node = client.node(name)
        remove(name)
        client.union.set_flags(node, client.union.get_flags(node) | FS_NODUMP_FL)
        assert client.union.get_flags(node) & FS_NODUMP_FL


def test_what_is_neither_file_nor_directory_has_none(open_union: Open) -> None:
    client = open_union({})
    node = client.call(client.union.mknod, ROOT_ID, b"fifo", 0o10644, 0, ROOT).node
    with pytest.raises(OSError, match="ioctl") as caught:
        client.union.get_flags(node)
    assert caught.value.errno == errno.ENOTTY


def test_birth_is_that_of_the_real_object(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower", "d": None})
    (tmp_path / "lower0/link").symlink_to("nowhere")
    for name in ("f", "d", "link"):
        real = os.fsencode(tmp_path / "lower0" / name)
        assert client.union.birth_time(client.node(name)) == birth_time(real, follow_symlinks=False)
    client.chmod("f", 0o600)
    assert client.union.birth_time(client.node("f")) == birth_time(os.fsencode(tmp_path / "upper/f"), follow_symlinks=False)


def test_removed_file_has_a_birth_too(open_union: Open) -> None:
    client = open_union({})
    client.write("f", b"")
    node = client.node("f")
    before = client.union.birth_time(node)
    client.unlink("f")
    assert client.union.birth_time(node) == before
