"""Inodes: what is packed into one slot, and what few of them have."""

from __future__ import annotations

import pytest

from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer, RealDir


@pytest.fixture
def place() -> RealDir:
    return RealDir(Layer.__new__(Layer), None, b"")


def test_number_origin_and_ctime_do_not_touch_each_other(place: RealDir) -> None:
    inode = Inode(2, (1 << 64) - 1, 8, place, b"f", (1 << 27) - 1)
    assert (inode.ino, inode.has_origin, inode.lower_ctime) == ((1 << 64) - 1, False, (1 << 27) - 1)
    inode.has_origin = True
    inode.lower_ctime = 5
    assert (inode.ino, inode.has_origin, inode.lower_ctime) == ((1 << 64) - 1, True, 5)
    inode.ino = 7
    inode.has_origin = False
    assert (inode.ino, inode.has_origin, inode.lower_ctime) == (7, False, 5)


def test_first_name_that_goes_gives_way_to_the_next(place: RealDir) -> None:
    parent = Directory(1, 1, place, ())
    inode = Inode(2, 2, 8, place, b"a")
    inode.parent, inode.name = parent, b"a"
    for name in (b"b", b"c"):
        inode.add_name(parent, name)
    inode.remove_name(parent, b"a")
    assert (inode.parent, inode.name, inode.names) == (parent, b"b", ((parent, b"b"), (parent, b"c")))
    inode.remove_name(parent, b"c")
    inode.remove_name(parent, b"b")
    assert (inode.parent, inode.names) == (None, ())


def test_another_name_is_none_that_goes(place: RealDir) -> None:
    parent = Directory(1, 1, place, ())
    inode = Inode(2, 2, 8, place, b"a")
    assert inode.another_name(parent, b"a") is None
    inode.parent, inode.name = parent, b"a"
    assert inode.another_name(parent, b"a") is None
    inode.add_name(parent, b"b")
    assert inode.another_name(parent, b"a") == (parent, b"b")
    assert inode.another_name(parent, b"b") == (parent, b"a")


def test_inode_that_has_only_what_all_have_keeps_nothing_more(place: RealDir) -> None:
    inode = Inode(2, 2, 8, place, b"f")
    inode.data = None
    inode.redirect = b""
    assert inode.rare is None
    inode.redirect = b"/elsewhere"
    assert (inode.redirect, inode.data, inode.hard_link_ino) == (b"/elsewhere", None, 0)
