"""Metadata-only copies: made by us, made by the kernel, and read by each."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, stack
from unionfs.filesystem import SET_ATIME, SET_MTIME, Blocking, Changes
from unionfs.overlay import Options, Stack, Union

METACOPY = Options(metacopy=True)
DATA = b"lower data " * 1000
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # VFS_CAP_REVISION_2, effective, net_bind_service


def has_mark(path: Path) -> bool:
    return "trusted.overlay.metacopy" in os.listxattr(path)


@contextmanager
def opened(layers: Stack, options: Options = METACOPY) -> Iterator[Client]:
    union = Union(layers, options)
    try:
        yield Client(union)
    finally:
        union.close()


@contextmanager
def kernel_mount(layers: Stack, merged: Path) -> Iterator[Path]:
    merged.mkdir(exist_ok=True)
    lowers = ":".join(map(str, layers.lowers))
    options = f"lowerdir={lowers},upperdir={layers.upper},workdir={layers.work},redirect_dir=on,metacopy=on"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True, timeout=60)
    try:
        yield merged
    finally:
        subprocess.run(["umount", merged], check=True, timeout=60)


@pytest.fixture
def layers(tmp_path: Path) -> Stack:
    return stack(tmp_path, {"d/f": DATA, "d/g": DATA, "e": None})


def test_chmod_copies_no_data_and_the_first_write_does(layers: Stack, tmp_path: Path) -> None:
    upper = tmp_path / "upper/d/f"
    with opened(layers) as client:
        before = client.attr("d/f")
        client.chmod("d/f", 0o600)
        assert client.union.statistics()["copied_up_bytes"] == 0
        assert has_mark(upper)
        after = client.attr("d/f")
        assert (after.size, after.blocks, after.ino, after.mtime) == (before.size, before.blocks, before.ino, before.mtime)
        assert client.read("d/f") == DATA
        client.write("d/f", b"UPPER")
        assert client.read("d/f") == b"UPPER" + DATA[5:]
    assert not has_mark(upper)
    assert upper.read_bytes() == b"UPPER" + DATA[5:]
    assert (tmp_path / "lower0/d/f").read_bytes() == DATA


def test_without_the_option_chmod_copies_data(layers: Stack, tmp_path: Path) -> None:
    with opened(layers, Options()) as client:
        client.chmod("d/f", 0o600)
    assert not has_mark(tmp_path / "upper/d/f")
    assert (tmp_path / "upper/d/f").read_bytes() == DATA


def test_renamed_and_linked_copies_find_their_data_after_remount_here_and_in_the_kernel(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.rename("d/f", "e/moved")
        client.chmod("d/g", 0o600)
        client.call(client.union.link, client.node("d/g"), *client.place("e/linked"))
        client.rename("d", "directory")
        client.rename("directory/g", "directory/renamed")
    names = ("e/moved", "e/linked", "directory/renamed")
    with opened(layers) as client:
        assert [client.read(name) for name in names] == [DATA] * 3
    with kernel_mount(layers, tmp_path / "merged") as merged:
        assert [(merged / name).read_bytes() for name in names] == [DATA] * 3
    assert has_mark(tmp_path / "upper/e/moved")


def test_copies_made_by_the_kernel_are_read(layers: Stack, tmp_path: Path) -> None:
    with kernel_mount(layers, tmp_path / "merged") as merged:
        (merged / "d/f").chmod(0o640)
        (merged / "d/f").rename(merged / "e/moved")
        (merged / "d/g").chmod(0o640)
    assert has_mark(tmp_path / "upper/e/moved")
    for options in (METACOPY, Options()):
        with opened(layers, options) as client:
            assert client.read("e/moved") == client.read("d/g") == DATA
            assert client.attr("e/moved").mode & 0o777 == 0o640
    upper_as_lower = Stack((tmp_path / "upper", *layers.lowers))
    with opened(upper_as_lower) as client:
        assert client.read("e/moved") == client.read("d/g") == DATA


def test_copy_of_a_copy_in_a_lower_layer_finds_the_data_at_the_bottom(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.rename("d/f", "e/moved")
    second = Stack((tmp_path / "upper", *layers.lowers), tmp_path / "upper2", tmp_path / "work")
    (tmp_path / "upper2").mkdir()
    with opened(second) as client:
        client.chmod("e/moved", 0o600)
        client.rename("e/moved", "again")
        assert client.union.statistics()["copied_up_bytes"] == 0
    with opened(second) as client:
        assert client.read("again") == DATA
        client.truncate("again", 7)
        assert client.read("again") == DATA[:7]
    assert not has_mark(tmp_path / "upper2/again")


def test_copy_in_a_lower_layer_is_copied_up_with_its_data(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
    (tmp_path / "upper2").mkdir()
    with opened(Stack((tmp_path / "upper", *layers.lowers), tmp_path / "upper2", tmp_path / "work"), Options()) as client:
        client.write("d/f", b"UPPER")
        client.write("d/f", b"more", 5)
        assert client.read("d/f") == b"UPPERmore" + DATA[9:]
    assert not has_mark(tmp_path / "upper2/d/f")
    assert (tmp_path / "upper2/d/f").read_bytes() == b"UPPERmore" + DATA[9:]


def test_data_copy_keeps_times_and_capabilities(layers: Stack, tmp_path: Path) -> None:
    os.setxattr(tmp_path / "lower0/d/f", "security.capability", CAPABILITY)
    os.utime(tmp_path / "lower0/d/f", ns=(1, 2))
    with opened(layers) as client:
        client.chmod("d/f", 0o755)
        client.call(client.union.open, client.node("d/f"), os.O_RDWR, ROOT)
    upper = tmp_path / "upper/d/f"
    assert not has_mark(upper)
    assert os.getxattr(upper, "security.capability") == CAPABILITY
    assert upper.stat().st_mtime_ns == 2


def test_crash_during_the_data_copy_leaves_the_lower_data_in_view(layers: Stack) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
        node = client.node("d/f")
        with pytest.raises(Blocking) as blocking:
            client.union.open(node, os.O_RDWR, ROOT)
        blocking.value.work()  # the data is there, the mark still is too
    with opened(layers) as client:
        assert client.read("d/f") == DATA


def test_times_set_during_the_data_copy_stay(layers: Stack) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
        node = client.node("d/f")
        with pytest.raises(Blocking) as opening:
            client.union.open(node, os.O_RDWR, ROOT)
        changes = Changes(SET_ATIME | SET_MTIME, atime_ns=10**9, mtime_ns=2 * 10**9)
        with pytest.raises(Blocking) as setting:
            client.union.setattr(node, changes, ROOT)
        assert setting.value.work is opening.value.work
        opening.value.work()
        client.union.setattr(node, changes, ROOT)
        client.union.open(node, os.O_RDWR, ROOT)
        assert client.attr("d/f").mtime == 2


def test_pinned_copy_keeps_its_node_until_its_data_moves(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        node = client.node("d/f")
        client.union.pin(node)
        client.chmod("d/f", 0o600)
        assert client.node("d/f") == node
        assert client.union.open(node, os.O_RDONLY, ROOT).generation == 0
        with pytest.raises(OSError, match="tale"):
            client.call(client.union.open, node, os.O_RDWR, ROOT)
        assert client.node("d/f") != node
    assert (tmp_path / "upper/d/f").read_bytes() == DATA


def test_truncating_open_of_a_copy_copies_no_data(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
        client.union.open(client.node("d/f"), os.O_WRONLY | os.O_TRUNC, ROOT)
        assert client.blocked == 0
    assert (tmp_path / "upper/d/f").read_bytes() == b""
    assert not has_mark(tmp_path / "upper/d/f")


@pytest.mark.parametrize("value", [b"\0", b"\0\5\0\0", b"\1\4\0\0", b"abc"])
def test_malformed_mark_is_eio(layers: Stack, tmp_path: Path, value: bytes) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
    os.setxattr(tmp_path / "upper/d/f", "trusted.overlay.metacopy", value)
    with opened(layers) as client, pytest.raises(OSError, match="metacopy"):
        client.node("d/f")


def test_copy_whose_data_is_gone_is_eio_and_leaves_no_inode(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
    (tmp_path / "lower0/d/f").unlink()
    with opened(layers) as client:
        with pytest.raises(OSError, match="missing in the layers below"):
            client.node("d/f")
        assert client.union.statistics()["inodes"] == 2


def test_metacopy_without_redirects_is_refused() -> None:
    with pytest.raises(ValueError, match="redirect_dir=on"):
        Options(metacopy=True, redirect_dir="off")
