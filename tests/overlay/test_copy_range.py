"""copy_file_range between the files of a union."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.overlay.conftest import Open
from unionfs.filesystem import ROOT_ID, Blocking


def test_copies_from_a_lower_file_into_one_that_is_copied_up_for_it(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"source": b"0123456789", "target": b"abcdef"})
    source, target = client.node("source"), client.node("target")
    assert client.call(client.union.copy_file_range, source, 2, target, 4, 5) == 5
    assert (tmp_path / "upper/target").read_bytes() == b"abcd23456"
    assert not (tmp_path / "upper/source").exists()
    assert client.attr("target").size == 9


def test_ends_at_the_end_of_the_source(open_union: Open) -> None:
    client = open_union({"source": b"0123456789"})
    client.write("target", b"")
    target = client.node("target")
    assert client.call(client.union.copy_file_range, client.node("source"), 7, target, 0, 100) == 3
    assert client.call(client.union.copy_file_range, client.node("source"), 10, target, 3, 100) == 0
    assert client.read("target") == b"789"


def test_copies_within_a_lower_file_after_its_copy_up(open_union: Open) -> None:
    client = open_union({"f": b"0123456789"})
    node = client.node("f")
    assert client.call(client.union.copy_file_range, node, 0, node, 10, 10) == 10
    assert client.read("f") == b"01234567890123456789"


def test_overlapping_ranges_of_one_file_are_refused(open_union: Open) -> None:
    client = open_union({})
    client.write("f", b"0123456789")
    node = client.node("f")
    with pytest.raises(OSError, match="Invalid argument"):
        client.call(client.union.copy_file_range, node, 0, node, 5, 10)
    assert client.read("f") == b"0123456789"


def test_target_of_a_stale_node_is_its_successor(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower", "source": b"SOURCE"})
    old = client.node("f")
    client.union.pin(old)
    assert client.call(client.union.copy_file_range, client.node("source"), 0, old, 0, 6) == 6
    assert client.read("f") == b"SOURCE"
    assert (tmp_path / "lower0/f").read_bytes() == b"lower"


def test_little_is_copied_at_once_whatever_was_asked_for(open_union: Open, tmp_path: Path) -> None:
    """Programs ask for more than any file has (cp(1): for 2**63 bytes); another thread would take longer than the copying."""
    client = open_union({"source": b"data"})
    client.write("target", b"")
    assert client.union.copy_file_range(client.node("source"), 1, client.node("target"), 0, 1 << 62) == 3
    assert (tmp_path / "upper/target").read_bytes() == b"ata"


def test_the_copying_holds_its_files_open_and_gives_them_back(open_union: Open, tmp_path: Path) -> None:
    data = b"data" * (32 << 10)
    client = open_union({"source": data})
    client.write("target", b"")
    source, target = client.node("source"), client.node("target")
    client.union.read(source, 0, 1)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Blocking) as raised:
        client.union.copy_file_range(source, 0, target, 0, len(data))
    assert not raised.value.restart
    os.link(tmp_path / "upper/target", tmp_path / "kept")
    client.call(client.union.unlink, ROOT_ID, b"target")
    assert raised.value.work() == len(data)
    assert (tmp_path / "kept").read_bytes() == data
    client.union.forget(target, client.union._nodes.get(target).nlookup)
    assert len(os.listdir("/proc/self/fd")) <= before
