"""Copies that are made before the moment of a snapshot: they are used if they are still good, and made good if not."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, build
from tests.overlay.test_live_snapshot import Live
from unionfs.overlay import Options, beforehand, carried
from unionfs.overlay.beforehand import Beforehand
from unionfs.overlay.data_copy import Reflinks
from unionfs.overlay.data_update import update_data
from unionfs.overlay.live_snapshot import LiveSnapshot

SIZE = 1 << 20


class Writing:
    """A union with one large file that a program writes to without asking, as passthrough lets it."""

    def __init__(self, top: Path) -> None:
        self.live = Live(top, [build(top / "lower", {"other": b""})], Options(fsync="auto"))
        client = self.live.client
        client.write("w", b"a" * SIZE)
        self.node = client.node("w")
        client.call(client.union.open, self.node, os.O_RDWR, ROOT)
        client.union.pin(self.node)
        self.file = (self.live.upper / "w").open("r+b", buffering=0)

    def prepare(self) -> LiveSnapshot:
        snapshot = self.live.union.prepare_snapshot("one")
        work = snapshot.copy_beforehand()
        assert work is not None
        work()
        return snapshot

    def frozen(self, snapshot: LiveSnapshot) -> bytes:
        taken = snapshot.take().snapshot
        assert taken.about.is_consistent
        assert (self.live.upper / "w").stat().st_ino == os.fstat(self.file.fileno()).st_ino
        assert sorted(os.listdir(taken.layer.parent)) == ["about", "layer"]
        return (taken.layer / "w").read_bytes()


@pytest.fixture
def writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writing]:
    made = Writing(tmp_path)
    # Whatever the filesystem of the tests is: one in memory is treated as one that tells of nothing.
    monkeypatch.setattr(type(made.live.union._tree), "upper_is_durable", True)
    # And its clock: the file was not changed just now.
    monkeypatch.setattr(beforehand, "_TICKS_NS", 0)
    yield made
    made.file.close()
    made.live.union.close()


def test_copy_of_what_did_not_change_is_not_made_again(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = writing.prepare()
    writing.live.client.write("other", b"answered meanwhile")

    def refuse(*_: object) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr(carried, "copy_data", refuse)
    monkeypatch.setattr(carried, "update_data", refuse)
    assert writing.frozen(snapshot) == b"a" * SIZE


def test_what_changed_since_is_in_the_snapshot(writing: Writing) -> None:
    snapshot = writing.prepare()
    os.pwrite(writing.file.fileno(), b"changed", 400_000)
    expected = b"a" * 400_000 + b"changed" + b"a" * (SIZE - 400_007)
    assert writing.frozen(snapshot) == expected
    assert (writing.live.upper / "w").read_bytes() == expected


def test_write_through_a_mapping_is_in_the_snapshot(writing: Writing) -> None:
    with mmap.mmap(writing.file.fileno(), SIZE) as mapped:
        mapped[0] = ord("b")
        snapshot = writing.prepare()
        mapped[0] = ord("c")
        assert writing.frozen(snapshot)[:2] == b"ca"


def test_mode_and_attributes_that_changed_since_are_in_the_snapshot(writing: Writing) -> None:
    client, union = writing.live.client, writing.live.union
    client.call(union.setxattr, writing.node, b"user.old", b"1", 0)
    snapshot = writing.prepare()
    client.chmod("w", 0o600)
    client.call(union.removexattr, writing.node, b"user.old")
    client.call(union.setxattr, writing.node, b"user.new", b"2", 0)
    assert writing.frozen(snapshot) == b"a" * SIZE
    copy = snapshot.staged.final_layer / "w"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [name for name in os.listxattr(copy) if name.startswith("user.")] == ["user.new"]


def test_file_that_was_closed_since_is_frozen_as_it_is(writing: Writing) -> None:
    snapshot = writing.prepare()
    ino = os.fstat(writing.file.fileno()).st_ino
    writing.live.union.unpin(writing.node)
    taken = snapshot.take().snapshot
    assert (taken.layer / "w").stat().st_ino == ino
    assert os.listdir(writing.live.upper) == []


def test_nothing_is_copied_beforehand_where_blocks_can_be_shared(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reflinks, "clone", lambda *_: True)
    snapshot = writing.prepare()
    assert os.listdir(snapshot.staged.copies) == []
    snapshot.discard()


def test_full_disk_beforehand_leaves_it_to_the_snapshot(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(beforehand, "copy_data", full)
        snapshot = writing.prepare()
    assert os.listdir(snapshot.staged.copies) == []
    assert writing.frozen(snapshot) == b"a" * SIZE


def test_small_files_are_left_to_the_snapshot(tmp_path: Path) -> None:
    live = Live(tmp_path, [build(tmp_path / "lower", {})], Options(fsync="volatile"))
    live.client.write("w", b"small")
    live.union.pin(live.client.node("w"))
    assert Beforehand(tmp_path, sync=False).work(live.union._tree) is None
    live.union.close()


@pytest.mark.parametrize("seed", range(20))
def test_updated_copy_is_equal_with_its_holes(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311  no secret
    source, target = tmp_path / "source", tmp_path / "target"
    for path in (source, target):
        with path.open("wb") as file:
            for _ in range(choose.randint(0, 6)):
                file.seek(choose.randrange(3 << 20))
                file.write(choose.randbytes(choose.randint(1, 400_000)))
            file.truncate(choose.randrange(4 << 20))
    with source.open("rb") as read, target.open("r+b") as written:
        update_data(read.fileno(), written.fileno(), source.stat().st_size, Reflinks())
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 2 * 8


def test_only_what_differs_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"a" * SIZE)
    target.write_bytes(b"a" * (SIZE - 1) + b"b")
    offsets: list[int] = []
    writing = os.pwrite

    def note(fd: int, data: bytes, offset: int) -> int:
        offsets.append(offset)
        return writing(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", note)
    monkeypatch.setattr(Reflinks, "clone", lambda *_: False)
    with source.open("rb") as read, target.open("r+b") as written:
        update_data(read.fileno(), written.fileno(), SIZE, Reflinks())
    assert offsets == [SIZE - (256 << 10)]
