"""A process that is killed at any moment leaves what was there before, or what comes after, and nothing else in sight."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Callable, Iterator

import pytest

from tests.behaviour.tree import Snapshot, differences
from tests.store.snapshots.conftest import Bench
from tests.store.snapshots.made_layers import base
from unionfs.linux.namespaces import enter_private_mount_namespace
from unionfs.store.errors import ExistsError, NotFoundError
from unionfs.store.leases import collecting
from unionfs.store.snapshotter import Kind, Snapshotter

CALLS = {
    "mkdir", "rename", "open", "close", "execute", "fsync", "rmdir", "unlink", "link", "symlink", "mknod", "chmod", "chown",
    "setxattr", "utime", "flock", "copy_file_range", "sendfile", "ftruncate", "scandir", "listdir", "lstat",
}  # fmt: skip
"""Names of the calls before which a process is killed: system calls, and statements of the database."""


def killed_at(point: int, act: Callable[[], None]) -> bool:
    """Do it in a child that is killed before its call number ``point``; False: it had fewer, and came to its end."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def profile(_frame: types.FrameType, event: str, call: object) -> None:
            nonlocal count
            if event == "c_call" and getattr(call, "__name__", "") in CALLS:
                count += 1
                if count > point:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.setprofile(profile)
            act()
            status = 0
        finally:
            sys.setprofile(None)
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def kills(bench: Bench, act: Callable[[Snapshotter], None]) -> Iterator[int]:
    """Kill it at each of its points, the first time at the first one; the last time it comes to its end."""
    point = 0
    while killed_at(point, lambda: act(bench.reopened())):
        yield point
        point += 1
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
    for point in kills(bench, lambda snapshots: snapshots.prepare("box", image) and None):
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
    gone = False
    point = 0
    while killed_at(point, lambda: bench.reopened().remove("box")):
        point += 1
        if "box" not in bench.names():
            gone = True
            break
    assert gone
    assert point > 3
    collect(bench)
    assert own_directories(bench) == set()
    # One step earlier it was still whole.
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        (target / "file").write_text("mine")
    killed_at(point - 2, lambda: bench.reopened().remove("box"))
    collect(bench)
    with bench.mounted("box") as target:
        assert set(Snapshot.of(target).records) == set(before.records)


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
            if looked % 10 == 1:
                assert differences(before, bench.seen("box")) == []
            continue
        break
    assert looked > 10
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


def in_children(acts: list[Callable[[], None]]) -> list[int]:
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
    statuses = in_children([lambda: bench.reopened().prepare("box", image) and None] * 4)
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
def test_mount_in_another_namespace_is_in_use(bench: Bench) -> None:
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
