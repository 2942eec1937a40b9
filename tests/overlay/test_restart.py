"""Slow work: what `Blocking` promises."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.overlay.client import ROOT
from tests.overlay.conftest import Open
from unionfs.filesystem import SET_MODE, Blocking, Changes
from unionfs.linux.statfs import TMPFS_MAGIC
from unionfs.overlay import Options


def test_second_writer_joins_the_copy_up_that_runs(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    with pytest.raises(Blocking) as first:
        client.union.open(node, os.O_WRONLY, ROOT)
    with pytest.raises(Blocking) as second:
        client.union.setattr(node, Changes(SET_MODE, mode=0o600), ROOT)
    assert first.value.work is second.value.work
    assert not (tmp_path / "upper/f").exists()
    first.value.work()
    client.union.open(node, os.O_WRONLY, ROOT)
    client.union.setattr(node, Changes(SET_MODE, mode=0o600), ROOT)
    assert (tmp_path / "upper/f").read_bytes() == b"lower"
    assert client.union.statistics()["copy_ups"] == 1


def test_failed_copy_up_is_told_once_and_tried_again(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    with pytest.raises(Blocking) as blocking:
        client.union.open(node, os.O_WRONLY, ROOT)
    copying = blocking.value.work
    copying.error = OSError(errno.ENOSPC, "No space left on device")  # type: ignore[attr-defined]
    with copying._source:  # type: ignore[attr-defined]
        pass
    copying.done = True  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        client.union.open(node, os.O_WRONLY, ROOT)
    assert list((tmp_path / "upper").iterdir()) == []
    client.write("f", b"L")
    assert (tmp_path / "upper/f").read_bytes() == b"Lower"


def test_copy_up_of_a_file_removed_meanwhile_leaves_no_trace(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    with pytest.raises(Blocking) as blocking:
        client.union.open(node, os.O_WRONLY, ROOT)
    client.unlink("f")
    blocking.value.work()
    client.union.forget(node, 9)
    assert (tmp_path / "upper/f").is_char_device()
    with pytest.raises(OSError, match="tale"):
        client.union.open(node, os.O_WRONLY, ROOT)


def test_unlinked_lower_file_can_still_be_written_by_who_has_it_open(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    node = client.node("f")
    client.unlink("f")
    assert client.call(client.union.write, node, 5, b" and more") == 9
    assert client.call(client.union.read, node, 0, 100) == b"lower and more"
    assert client.union.getattr(node).nlink == 0
    assert (tmp_path / "lower0/f").read_bytes() == b"lower"
    assert [path.name for path in (tmp_path / "upper").iterdir()] == ["f"]


def test_truncating_open_copies_no_data(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    client.union.open(client.node("f"), os.O_WRONLY | os.O_TRUNC, ROOT)
    assert client.blocked == 0
    assert (tmp_path / "upper/f").read_bytes() == b""
    assert client.union.statistics()["copied_up_bytes"] == 0


def test_fsync_waits_in_another_thread_and_its_result_is_the_reply(open_union: Open) -> None:
    client = open_union({})
    client.write("f", b"data")
    with pytest.raises(Blocking) as blocking:
        client.union.fsync(client.node("f"), datasync=False)
    assert not blocking.value.restart
    assert blocking.value.work() is None


def test_fsync_of_a_volatile_union_does_nothing(open_union: Open) -> None:
    client = open_union({}, options=Options(fsync="volatile"))
    client.write("f", b"data")
    client.union.fsync(client.node("f"), datasync=False)
    assert client.blocked == 0


def test_fsync_of_an_upper_in_memory_does_nothing(open_union: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unionfs.overlay.tree.filesystem_type", lambda _fd: TMPFS_MAGIC)
    client = open_union({})
    client.write("f", b"data")
    client.union.fsync(client.node("f"), datasync=False)
    client.union.fsync(1, datasync=False)
    assert client.blocked == 0


def test_small_file_of_a_volatile_union_is_copied_up_at_once(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"small": b"lower", "large": b"x" * (1 << 20)}, options=Options(fsync="volatile"))
    client.chmod("small", 0o600)
    assert client.blocked == 0
    client.chmod("large", 0o600)
    assert client.blocked == 1
    assert (tmp_path / "upper/small").read_bytes() == b"lower"


def test_small_metadata_only_copy_in_a_volatile_union_gets_its_data_at_once(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"small": b"lower", "large": b"x" * (1 << 20)}, options=Options(fsync="volatile", metacopy=True))
    for name in ("small", "large"):
        client.chmod(name, 0o600)
    assert client.union.statistics()["copied_up_bytes"] == 0
    client.write("small", b"L")
    assert client.blocked == 0
    client.write("large", b"L")
    assert client.blocked == 1
    assert (tmp_path / "upper/small").read_bytes() == b"Lower"
    assert client.union.statistics()["copied_up_bytes"] == 5 + (1 << 20)


def test_all_else_goes_on_while_a_file_is_copied_up(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"d/large": b"lower", "d/other": b"other", "d/gone": b"", "d/moved": b"moved"})
    union, node = client.union, client.node("d/large")
    with pytest.raises(Blocking) as blocking:
        union.open(node, os.O_WRONLY, ROOT)
    parent = client.node("d")
    assert client.read("d/large") == b"lower"
    assert union.open(node, os.O_RDONLY, ROOT).generation == 0
    assert union.getattr(node).size == 5
    assert union.lookup(parent, b"none") is None
    assert len(list(union.readdir(parent, 0))) == 6
    union.create(parent, b"new", os.O_WRONLY, 0o644, ROOT)
    union.unlink(parent, b"gone")
    client.chmod("d/other", 0o600)
    client.rename("d/moved", "d/large2")
    client.rename("d/other", "d/gone")
    assert not blocking.value.work.done  # type: ignore[attr-defined]
    blocking.value.work()
    assert union.open(node, os.O_WRONLY, ROOT).generation == 1
    assert sorted(path.name for path in (tmp_path / "upper/d").iterdir() if path.is_file()) == ["gone", "large", "large2", "new"]
