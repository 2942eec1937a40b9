"""A process that is killed at any moment leaves what was there before, or what comes after, and nothing else in sight."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.behaviour.tree import Snapshot, differences
from tests.programs import started
from tests.store.snapshots.conftest import Bench
from tests.store.snapshots.killing import killed_at
from tests.store.snapshots.made_layers import base
from unionfs.linux.namespaces import enter_private_mount_namespace
from unionfs.store import snapshotter
from unionfs.store.drivers.mounting import MountPoint, mount_points
from unionfs.store.errors import ExistsError, NotFoundError
from unionfs.store.leases import collecting
from unionfs.store.snapshotter import Kind, Snapshotter

STEP = 3
"""Calls between two kills: each of a commit takes as long as all of it."""


def kills(bench: Bench, act: Callable[[Snapshotter], object]) -> Iterator[int]:
    """Kill it at many points, the first time at the first one; the last time it comes to its end."""
    point = 0
    while killed_at(point, lambda: act(bench.reopened())):
        yield point
        point += STEP
    yield point


def collect(bench: Bench) -> None:
    with collecting(bench.root) as is_alone:
        assert is_alone  # the lock went with the process
        bench.snapshots.collect()


def own_directories(bench: Bench) -> set[str]:
    return {name for name in bench.directories() if name.startswith("snapshots/")}


def test_killed_prepare_leaves_no_snapshot_or_a_whole_one(bench: Bench) -> None:
    image = bench.image(base)
    bench.snapshots.view("reference", image)
    wanted = bench.seen("reference")
    bench.snapshots.remove("reference")
    made = []
    for point in kills(bench, lambda snapshots: snapshots.prepare("box", image)):
        if "box" in bench.names():
            made.append(point)
            if len(made) == 1:
                assert differences(wanted, bench.seen("box")) == []
            bench.snapshots.remove("box")
        collect(bench)
        assert bench.names() == [image]
        assert own_directories(bench) == set()
    assert made
    assert made[0] > 5


def test_killed_remove_leaves_the_snapshot_or_nothing_of_it(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        (target / "file").write_text("mine")
        before = Snapshot.of(target)
    looked = 0
    for _ in kills(bench, lambda snapshots: snapshots.remove("box")):
        if "box" not in bench.names():
            break
        looked += 1
        collect(bench)  # takes nothing of it
        if looked % 10 == 1:
            assert differences(before, bench.seen("box")) == []
    assert looked > 1
    collect(bench)
    assert own_directories(bench) == set()


def test_killed_commit_loses_nothing(bench: Bench) -> None:
    image = bench.image(base)
    bench.snapshots.prepare("box", image)
    with bench.mounted("box") as target:
        (target / "file").write_text("mine")
        (target / "etc/passwd").unlink()
        before = Snapshot.of(target)
    looked = 0
    for _ in kills(bench, lambda snapshots: snapshots.commit("result", "box")):
        collect(bench)
        if "box" in bench.names():
            assert bench.snapshots.stat("box").kind is Kind.ACTIVE
            assert "result" not in bench.names()
            looked += 1
            if looked % 4 == 1:
                assert differences(before, bench.seen("box")) == []
            continue
        break
    assert looked > 10 // STEP
    assert own_directories(bench) == set()
    bench.snapshots.view("look", "result")
    assert differences(before, bench.seen("look")) == []


def test_number_of_a_killed_prepare_is_no_obstacle(bench: Bench) -> None:
    left = bench.root / "snapshots/1"
    left.mkdir(parents=True)
    (left / "rubbish").touch()
    bench.snapshots.prepare("box", None)
    assert not (left / "rubbish").exists()
    with bench.mounted("box") as target:
        (target / "file").touch()


def test_left_over_directory_is_collected_and_what_is_in_use_stays(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    (bench.root / "snapshots/77/upper").mkdir(parents=True)
    with collecting(bench.root):
        assert bench.snapshots.collect() == [77]
        assert bench.snapshots.collect() == []
    with bench.mounted("box") as target:
        assert (target / "etc/passwd").exists()


def test_chains_go_with_their_image_and_stay_while_needed(bench: Bench) -> None:
    layer = bench.layer(base)
    image = bench.snapshots.ensure_image([layer])
    bench.snapshots.prepare("box", image)
    bench.snapshots.collect()
    assert bench.names() == [image, "box"]  # something stands on it
    bench.snapshots.remove("box")
    with bench.database.transaction() as connection:
        connection.execute("INSERT INTO images VALUES ('sha256:1', 1.0)")
        connection.execute("INSERT INTO image_layers VALUES ('sha256:1', 0, ?)", (layer,))
    bench.snapshots.collect()
    assert bench.names() == [image]
    with bench.database.transaction() as connection:
        connection.execute("DELETE FROM images")
    bench.snapshots.collect()
    assert bench.names() == []


# -- two at once ------------------------------------------------------------------------------------------------------------


def in_children(acts: Sequence[Callable[[], object]]) -> list[int]:
    """Do all at once, each in a process of its own; their exit statuses."""
    read, write = os.pipe()
    pids = []
    for act in acts:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(write)
                os.read(read, 1)  # until all are there
                act()
                status = 0
            except (ExistsError, NotFoundError):
                status = 2
            finally:
                os._exit(status)
        pids.append(pid)
    os.close(read)
    os.close(write)
    return sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def test_of_many_who_prepare_one_key_one_gets_it(bench: Bench) -> None:
    image = bench.image(base)
    statuses = in_children([lambda: bench.reopened().prepare("box", image)] * 4)
    assert statuses == [0, 2, 2, 2]
    assert bench.names() == [image, "box"]
    assert len(bench.directories()) == 1


def test_of_many_who_remove_or_commit_one_key_one_does_it(bench: Bench) -> None:
    bench.snapshots.prepare("box", None)
    remove = lambda: bench.reopened().remove("box")  # noqa: E731
    commit = lambda: bench.reopened().commit("result", "box")  # noqa: E731
    assert in_children([remove, commit, remove, commit]) == [0, 2, 2, 2]
    assert bench.names() in ([], ["result"])
    assert bench.directories() == []


def test_many_prepare_and_remove_their_own_at_once(bench: Bench) -> None:
    image = bench.image(base)

    def work(number: int) -> None:
        snapshots = bench.reopened()
        for turn in range(5):
            snapshots.prepare(f"box{number}-{turn}", image)
            if turn:
                snapshots.remove(f"box{number}-{turn - 1}")

    assert in_children([lambda number=number: work(number) for number in range(4)]) == [0, 0, 0, 0]  # type: ignore[misc]
    assert sorted(bench.names()) == sorted([image, *(f"box{number}-4" for number in range(4))])
    assert len(bench.directories()) == 4


@pytest.mark.parametrize("bench", ["union", "overlay"], indirect=True)
def test_mount_in_another_namespace_is_in_use(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshotter, "_PATIENCE", 0.0)
    bench.snapshots.prepare("box", bench.image(base))
    target = bench.target()
    read, write = os.pipe()
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write)
            enter_private_mount_namespace()
            bench.reopened().mount("box", target)
            os.write(tell, b"x")
            os.read(read, 1)
            bench.reopened().unmount("box")
        finally:
            os._exit(0)
    os.close(tell)
    os.close(read)
    os.read(ready, 1)
    try:
        with pytest.raises(Exception, match=r"in another mount namespace"):
            bench.snapshots.remove("box")
    finally:
        os.close(write)
        os.close(ready)
        os.waitpid(pid, 0)
    bench.snapshots.remove("box")


@pytest.mark.parametrize("bench", ["overlay"], indirect=True)
def test_copy_of_a_mount_in_a_namespace_that_is_being_made_is_not_in_the_way_for_long(bench: Bench) -> None:
    """A container that ends while another one starts: that has a copy of all mounts until it has left the old root."""
    bench.snapshots.prepare("box", bench.image(base))
    target = bench.target()
    bench.snapshots.mount("box", target)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; read line"]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        bench.snapshots.unmount(target)
        looks: list[list[MountPoint]] = []

        def look(directory: Path) -> list[MountPoint]:
            looks.append(mount_points(directory))
            if len(looks) == 1:
                other.stdin.close()
            return looks[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(snapshotter, "mount_points", look)
            bench.snapshots.remove("box")
        assert not looks[0][0].is_here
        assert not looks[-1]
