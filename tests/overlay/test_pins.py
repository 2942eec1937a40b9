"""Files that the kernel reads past us (passthrough) while they are copied up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.overlay.client import ROOT
from tests.overlay.conftest import Open
from unionfs.filesystem import StaleAttributes


def test_copy_up_of_a_pinned_file_moves_its_name_to_a_new_node_with_the_same_ino(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    old = client.node("f")
    client.union.pin(old)
    with pytest.raises(OSError, match="tale"):
        client.call(client.union.open, old, os.O_RDWR, ROOT)
    new = client.node("f")
    assert new != old
    assert client.union.getattr(new).ino == client.union.getattr(old).ino
    assert old in client.union.stale
    assert new not in client.union.stale
    assert StaleAttributes(old) in client.union.notices
    assert client.call(client.union.open, new, os.O_RDWR, ROOT).generation == 1
    client.union.write(new, 0, b"UPPER")
    assert (tmp_path / "lower0/f").read_bytes() == b"lower"
    assert (tmp_path / "upper/f").read_bytes() == b"UPPER"


def test_kernel_is_told_of_every_object_whose_attributes_a_copy_up_changes_unless_the_reply_has_them(open_union: Open) -> None:
    client = open_union({"d/f": b"lower", "d/g": b"lower"})
    d, f = client.node("d"), client.node("d/f")
    client.call(client.union.open, f, os.O_RDWR, ROOT)
    assert [notice.node for notice in client.union.notices] == [d, f]
    client.union.notices.clear()
    client.chmod("d/g", 0o600)
    assert client.union.notices == []


def test_copy_up_for_a_change_of_attributes_tells_of_a_node_that_is_left_behind(open_union: Open) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    client.union.pin(node)
    client.chmod("f", 0o600)
    assert StaleAttributes(node) in client.union.notices


def test_stale_node_shows_what_its_successor_is(open_union: Open) -> None:
    client = open_union({"f": b"lower"})
    old = client.node("f")
    client.union.pin(old)
    client.chmod("f", 0o600)
    client.write("f", b"longer than before")
    assert client.union.getattr(old).size == len(b"longer than before")
    assert client.union.getattr(old).mode & 0o777 == 0o600


def test_successor_goes_with_the_stale_node_if_nobody_looked_it_up(open_union: Open) -> None:
    client = open_union({"f": b"lower"})
    before = client.union.statistics()["inodes"]
    old = client.node("f")
    client.union.pin(old)
    client.chmod("f", 0o600)
    client.union.unpin(old)
    client.union.forget(old, 2)
    assert client.union.statistics()["inodes"] == before
    assert client.read("f") == b"lower"


def test_successor_stays_as_long_as_the_stale_node(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    old = client.node("f")
    client.union.pin(old)
    client.chmod("f", 0o600)
    new = client.node("f")
    client.union.forget(new, 1)
    assert client.union.getattr(old).mode & 0o777 == 0o600
    client.rename("f", "g")
    assert client.union.getattr(old).mode & 0o777 == 0o600
    client.union.unpin(old)
    client.union.forget(new, 9)
    client.union.forget(old, 9)
    assert client.union.statistics()["inodes"] == 1
    assert (tmp_path / "upper/g").exists()


def test_unpinned_file_keeps_its_node_and_gets_another_generation(open_union: Open) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    assert client.union.open(node, os.O_RDONLY, ROOT).generation == 0
    client.union.pin(node)
    client.union.unpin(node)
    assert client.call(client.union.open, node, os.O_RDWR, ROOT).generation == 1
    assert client.node("f") == node
