"""Another worker takes a union over whose layers were changed: what the kernel knows is what it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.overlay.client import build
from tests.overlay.handover import HandedOver
from unionfs.filesystem import ROOT_ID
from unionfs.overlay import Options


@pytest.fixture(params=["off", "on"], ids=["index=off", "index=on"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HandedOver]:
    lower = build(tmp_path / "lower", {"f": b"lower", "d/x": b"x"})
    union = HandedOver(tmp_path, [lower], Options(index=request.param, fsync="volatile"))
    yield union
    union.union.close()


# -- objects without a name ---------------------------------------------------------------------------------------------------


def _removed_in_a_merged_layer(live: HandedOver) -> tuple[int, int]:
    """A file and a directory of a snapshot that are in use, and removed; then it is merged."""
    live.client.write("u", b"unlinked")
    live.client.mkdir("gone")
    live.client.chmod("gone", 0o750)
    live.take("one")
    live.take("two")
    nodes = live.client.node("u"), live.client.node("gone")
    live.client.unlink("u")
    live.client.rmdir("gone")
    return nodes


def test_removed_objects_of_merged_layers_go_on(live: HandedOver) -> None:
    file, directory = _removed_in_a_merged_layer(live)
    live.merge(2, 1)
    before = live.known()
    for _ in range(2):
        assert live.take_over().lost == 0
        assert live.known() == before
    assert live.union.getattr(directory).mode & 0o7777 == 0o750
    live.client.call(live.union.write, file, 0, b"UN")
    assert bytes(live.client.call(live.union.read, file, 0, 100)) == b"UNlinked"
    live.kernel.let_go()
    live.take("three")
    live.merge(4, 3)
    assert os.listdir(live.snapshots.directory) == ["5"]


def test_removed_objects_of_layers_that_were_being_merged_go_on(live: HandedOver) -> None:
    _removed_in_a_merged_layer(live)
    live.journal.flush()
    before = live.known()
    merging = live.union.prepare_merge((2, 1))
    merging.prepare()
    live.union.begin_change()
    merging.take()
    assert live.go_on().lost == 0
    assert live.known() == before


def test_what_was_kept_for_a_merge_that_did_not_come_to_pass_goes(live: HandedOver) -> None:
    _removed_in_a_merged_layer(live)
    live.journal.flush()
    before = live.known()
    build(live.snapshots.kept_directory(3), {"4711": b"nobody's"})
    assert live.take_over().lost == 0
    assert live.known() == before
    assert sorted(os.listdir(live.snapshots.directory)) == ["1", "2"]


def test_removed_file_of_a_layer_that_a_rollback_left_goes_on(live: HandedOver) -> None:
    live.take("one")
    live.client.write("u", b"unlinked")
    live.take("two")
    node = live.client.node("u")
    live.union.begin_change()
    live.kernel.tell(live.union.prepare_rollback("one", keeps=True).take(lambda _: None, force=False).notices)
    live.union.end_change()
    for _ in range(2):
        assert live.take_over().lost == 0
        assert bytes(live.client.call(live.union.read, node, 0, 100)) == b"unlinked"
    with pytest.raises(OSError, match="files in it are open"):
        live.union.set_snapshot_aside(2)


# -- names --------------------------------------------------------------------------------------------------------------------


def test_names_that_a_snapshot_parted_lead_to_files_of_their_own_though_the_worker_died_over_it(tmp_path: Path) -> None:
    live = HandedOver(tmp_path, [build(tmp_path / "lower", {})], Options(index="off", fsync="volatile"))
    live.client.write("a", b"both")
    live.client.call(live.union.link, live.client.node("a"), ROOT_ID, b"b")
    live.journal.flush()
    live.union.begin_change()
    live.union.prepare_snapshot(None).take()
    live.go_on()
    assert live.client.node("a") != live.client.node("b")
    live.client.write("a", b"mine")
    assert (live.client.read("a"), live.client.read("b")) == (b"mine", b"both")
    live.union.close()
