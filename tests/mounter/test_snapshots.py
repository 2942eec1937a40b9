"""Which snapshots a mount finds below its upper, and what the commands refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.overlay.client import Client, build
from unionfs.mounter.errors import RefusedError
from unionfs.mounter.request import MountRequest
from unionfs.mounter.snapshot_layers import with_snapshots
from unionfs.mounter.snapshots import list_snapshots, merge, remove_snapshot, rollback
from unionfs.overlay import Options, Stack, Union

OPTIONS = Options(fsync="volatile")


@pytest.fixture
def upper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An upper with two snapshots, ``one`` and ``two``."""
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))
    upper = build(tmp_path / "upper", {})
    client = Client(Union(Stack((build(tmp_path / "lower", {"f": b"f"}),), upper, build(tmp_path / "work", {})), OPTIONS))
    client.write("f", b"one")
    client.union.prepare_snapshot("one").take()
    client.write("f", b"two")
    client.union.prepare_snapshot("two").take()
    client.union.close()
    return upper


def _request(upper: Path, read_only: bool = False) -> MountRequest:
    return MountRequest(upper.parent / "merged", (upper.parent / "lower",), upper=upper, read_only=read_only)


def test_snapshots_of_an_upper_are_its_topmost_lowers(upper: Path) -> None:
    request, count = with_snapshots(_request(upper))
    assert count == 2
    assert [path.name for path in request.lowers] == ["layer", "layer", "lower"]
    assert [(path / "f").read_bytes() for path in request.lowers] == [b"two", b"one", b"f"]


def test_upper_without_snapshots_has_its_lowers_only(tmp_path: Path) -> None:
    upper = build(tmp_path / "upper", {})
    assert with_snapshots(_request(upper)) == (_request(upper), 0)


def test_missing_snapshot_is_named(upper: Path) -> None:
    directory = upper.with_name(".upper.snapshots")
    (directory / "1").rename(upper.parent / "elsewhere")
    with pytest.raises(RefusedError, match="snapshot 1, which the upper needs, is not there"):
        with_snapshots(_request(upper))


def test_what_was_not_finished_is_left_alone_by_a_read_only_mount(upper: Path) -> None:
    left = build(upper.with_name(".upper.snapshots") / "3.new", {})
    with_snapshots(_request(upper, read_only=True))
    assert left.exists()
    with_snapshots(_request(upper))
    assert not left.exists()


def test_snapshot_that_is_needed_is_not_removed(upper: Path) -> None:
    with pytest.raises(RefusedError, match="the upper and snapshot 2 would lose what is in it"):
        remove_snapshot(upper, "one")
    assert len(list_snapshots(upper)) == 2


def test_snapshot_that_nothing_needs_is_removed(upper: Path) -> None:
    rollback(upper, "one", discard=True)
    remove_snapshot(upper, "two")
    assert [item.snapshot.about.name for item in list_snapshots(upper)] == ["one"]
    assert os.listdir(upper.with_name(".upper.snapshots")) == ["1"]


def test_snapshot_that_something_else_is_built_on_is_not_merged(upper: Path) -> None:
    rollback(upper, "one", discard=False)
    with pytest.raises(RefusedError, match="cannot be merged: the upper needs it"):
        merge(upper, "one", "two")


def test_only_snapshots_upon_each_other_are_merged(upper: Path) -> None:
    with pytest.raises(RefusedError, match="is not below one"):
        merge(upper, "two", "one")
