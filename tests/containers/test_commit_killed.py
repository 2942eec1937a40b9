"""`commit` killed at any moment, and on a full disk: the container goes on, and nothing half-done is in sight."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Engine, kill
from tests.programs import run, wait_until
from tests.store.snapshots.killing import killed_at
from unionfs.containers.commit import commit
from unionfs.containers.container import Container, Containers
from unionfs.containers.runtime import find_runtime
from unionfs.store.reference import parse_reference
from unionfs.store.store import Store, open_store

CHANGED = "echo changed >/etc/file; rm /etc/group; echo up; exec sleep 1000"


@pytest.fixture
def _own_registry(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is called in the process of the test."""
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", engine.environment["UNIONFS_RUNTIME_DIR"])


def start(engine: Engine) -> Container:
    """A container named ``runs``, which has made its changes."""
    engine.ok("run", "-d", "--name", "runs", "box", "sh", "-c", CHANGED)
    engine.wait_for_output("runs", "up")
    with open_store(engine.root) as store:
        return Containers(engine.root, store.database).find("runs")


def is_paused(container: Container) -> bool:
    return find_runtime().is_paused(container.directory, container.id)


def is_noted(container: Container) -> bool:
    return (container.directory / "paused").exists()


def images(store: Store) -> list[str]:
    return [str(name) for image in store.images.all() for name in image.names]


@pytest.mark.usefixtures("_own_registry")
def test_killed_commit_leaves_the_container_running_and_an_image_or_none(engine: Engine) -> None:
    container = start(engine)
    was_noted = 0
    for point in range(0, 10_000, 29):
        is_killed = killed_at(point, lambda: commit(engine.root, "runs", parse_reference("box:made")))
        was_noted += is_noted(container)
        wait_until(lambda: not is_noted(container))  # without any other command
        assert not is_paused(container)
        with open_store(engine.root) as store:
            has_image = "box:made" in images(store)
        if has_image:
            break
        assert is_killed
    assert has_image
    assert was_noted >= 2, "no kill has met a pause"
    assert engine.ok("exec", "runs", "cat", "/etc/file") == "changed\n"
    assert engine.ok("run", "--rm", "box:made", "cat", "/etc/file") == "changed\n"
    engine.ok("rm", "-f", "runs")
    engine.ok("gc")
    assert engine.leftovers() == []
    with open_store(engine.root) as store:
        assert {path.name for path in (engine.root / "layers").iterdir()} == {layer.diff_id.hex for layer in store.layers.all()}
        assert len(store.images.blobs.all()) == 2


@pytest.mark.usefixtures("_own_registry")
@pytest.mark.parametrize("command", [("ps",), ("exec", "runs", "true"), ("stop", "-t", "0", "runs"), ("rm", "-f", "runs")])
def test_container_whose_pause_has_nobody_left_goes_on_with_the_next_command(engine: Engine, command: tuple[str, ...]) -> None:
    container = start(engine)
    (container.directory / "paused").write_text("4194305 1")  # a process that is no more: there are no such numbers
    find_runtime().pause(container.directory, container.id)
    engine.ok(*command)
    if command[0] != "rm":
        assert not is_noted(container)
    if command[0] in ("ps", "exec"):
        assert not is_paused(container)
        assert engine.ok("exec", "runs", "echo", "on") == "on\n"


def test_killed_pauser_is_told_and_the_container_goes_on(engine: Engine) -> None:
    runtime = engine.root.parent / "runc"
    runtime.write_text('#!/bin/sh\nrunc "$@" || exit\ncase "$*" in *" pause "*) kill -9 $PPID;; esac\n')
    runtime.chmod(0o755)
    engine.ok("run", "-d", "--runtime", runtime, "--name", "runs", "box", "sh", "-c", CHANGED)
    engine.wait_for_output("runs", "up")
    ended = engine.run("commit", "runs", "box:made")
    assert (ended.status, ended.stderr) == (1, "unionfs: runs: the process that pauses it was killed; try again\n")
    assert engine.ok("exec", "runs", "cat", "/etc/file") == "changed\n"


def test_two_commits_of_one_container_do_not_end_each_other_s_pause(engine: Engine) -> None:
    start(engine)
    with engine.started("commit", "runs", "box:one") as one, engine.started("commit", "runs", "box:two") as two:
        results = [(process.wait(60), process.stderr.read() if process.stderr else b"") for process in (one, two)]
    busy = b"unionfs: runs: another command is at work on it; wait for that, then try again\n"
    assert (0, b"") in results
    assert set(results) <= {(0, b""), (1, busy)}
    assert engine.ok("exec", "runs", "cat", "/etc/file") == "changed\n"


# -- a full disk ----------------------------------------------------------------------------------------------------------------


class SmallDisk:
    """A filesystem of a few MiB, with a store."""

    def __init__(self, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        self.engine = Engine(mountpoint / "store")
        self._filler = mountpoint / "filler"

    def fill(self, left: int) -> None:
        """Take all but ``left`` bytes."""
        status = os.statvfs(self.mountpoint)
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, status.f_bavail * status.f_frsize - left)
        finally:
            os.close(fd)

    def make_room(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(engine: Engine, tmp_path: Path) -> Iterator[SmallDisk]:
    del engine  # it knows what containers need
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mountpoint])
    small = SmallDisk(mountpoint)
    try:
        small.engine.add_image("box")
        yield small
    finally:
        small.engine.end_all()
        run(["umount", mountpoint])


def test_commit_on_a_full_disk_keeps_nothing_and_the_container_goes_on(disk: SmallDisk) -> None:
    engine = disk.engine
    engine.ok("run", "-d", "--name", "runs", "box", "sh", "-c", f"head -c 3000000 /bin/busybox >/big; {CHANGED}")
    engine.wait_for_output("runs", "up")
    before = sorted(os.listdir(engine.root / "layers"))
    disk.fill(left=500_000)
    ended = engine.run("commit", "runs", "box:made")
    assert ended.status == 1
    assert "No space left on device; make room" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert os.listdir(engine.root / "staging") == []
    assert sorted(os.listdir(engine.root / "layers")) == before
    assert engine.ok("exec", "runs", "cat", "/etc/file") == "changed\n"
    disk.make_room()
    engine.ok("commit", "runs", "box:made")
    assert engine.ok("run", "--rm", "box:made", "cat", "/etc/file") == "changed\n"


def test_run_on_a_full_disk_says_so_and_leaves_nothing(disk: SmallDisk) -> None:
    engine = disk.engine
    engine.ok("run", "--rm", "box", "true")  # what is made once for an image is there
    disk.fill(left=0)
    ended = engine.run("run", "--rm", "box", "true")
    assert ended.status == 125
    assert ended.stderr.count("\n") == 1
    assert "No space left on device" in ended.stderr or "full" in ended.stderr
    disk.make_room()
    engine.ok("ps")
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_container_that_fills_the_disk_is_told_and_ends_well(disk: SmallDisk) -> None:
    engine = disk.engine
    # What it has to say waits until there is room for the log: a removed file's comes back a moment later.
    has_room = "busybox dd if=/dev/zero of=/probe bs=64k count=32 2>/dev/null"
    script = (
        "busybox dd if=/dev/zero of=/big bs=64k 2>/dev/shm/said; rm /big;"
        f"until {has_room}; do sleep 0.05; done; rm /probe; cat /dev/shm/said >&2; echo on"
    )
    ended = engine.run("run", "--name", "fills", "box", "sh", "-c", script)
    assert ended.status == 0
    assert "No space left on device" in ended.stderr
    assert ended.stdout == "on\n"
    assert engine.ok("diff", "fills") == ""


def test_killed_container_on_a_full_disk_is_cleaned_up_when_there_is_room(disk: SmallDisk) -> None:
    engine = disk.engine
    found = engine.ok("run", "-d", "--name", "fills", "box", "sh", "-c", "echo up; exec sleep 1000").strip()
    engine.wait_for_output("fills", "up")
    disk.fill(left=0)
    kill(engine.monitor_of(found))
    assert engine.run("ps").stderr.count("\n") <= 1  # a line if it could not be done, and no traceback
    disk.make_room()
    engine.ok("rm", "-f", "fills")
    assert (engine.containers(), engine.leftovers()) == ([], [])
