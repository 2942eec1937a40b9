"""Every way out of a container: afterwards nothing runs, nothing is mounted, and what shall go is gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.containers.engine import Engine, kill
from tests.programs import TIMEOUT, wait_until
from unionfs.mounter.processes import is_running, start_time

WAITS = ("sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")


def start(engine: Engine, *options: str) -> dict[str, object]:
    """A container named ``box1`` in the background, which has written ``up``."""
    engine.ok("run", "-d", "--name", "box1", *options, "box", *WAITS)
    engine.wait_for_output("box1", "up")
    return engine.container("box1")


def test_the_end_of_the_command_removes_the_container_with_rm(engine: Engine) -> None:
    engine.ok("run", "--rm", "box", "touch", "/new")
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_the_end_of_the_command_unmounts_and_keeps_the_writable_layer_without_rm(engine: Engine) -> None:
    engine.ok("run", "--name", "kept", "box", "touch", "/new")
    assert engine.mounts() == []
    assert engine.processes() == []
    assert engine.ok("diff", "kept") == "A /new\n"
    engine.ok("rm", "kept")
    assert engine.leftovers() == []


def test_stop_sends_the_stop_signal_and_waits_until_all_is_undone(engine: Engine) -> None:
    start(engine, "--rm")
    assert engine.ok("stop", "box1") == "box1\n"
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_stop_sends_the_signal_that_was_asked_for(engine: Engine) -> None:
    script = "trap 'exit 33' USR1; trap 'exit 44' TERM; echo up; while :; do sleep 0.05; done"
    engine.ok("run", "-d", "--name", "own", "--stop-signal", "USR1", "box", "sh", "-c", script)
    engine.wait_for_output("own", "up")
    engine.ok("stop", "own")
    assert engine.container("own")["exit_code"] == 33


def test_stop_kills_what_does_not_end(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "deaf", "box", "sleep", "1000")
    engine.ok("stop", "-t", "0.1", "deaf")
    assert engine.container("deaf")["exit_code"] == 137
    assert engine.mounts() == []


def test_stop_of_what_has_ended_does_nothing(engine: Engine) -> None:
    engine.ok("run", "--name", "over", "box", "true")
    assert engine.ok("stop", "over") == "over\n"


def test_a_killed_container_is_cleaned_up(engine: Engine) -> None:
    found = start(engine, "--rm")
    monitor = engine.monitor_of(str(found["id"]))
    os.kill(int(str(found["pid"])), signal.SIGKILL)
    wait_until(lambda: not is_running(*monitor))
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_a_killed_foreground_command_takes_its_container_along(engine: Engine) -> None:
    with engine.started("run", "--rm", "box", *WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        monitor = engine.monitor_of(engine.containers()[0]["id"])
        process.kill()
        process.wait(TIMEOUT)
    wait_until(lambda: not is_running(*monitor))
    assert (engine.containers(), engine.leftovers()) == ([], [])


@pytest.mark.parametrize("command", [("ps",), ("rm", "-f", "box1")])
def test_what_a_killed_monitor_left_is_cleaned_up_by(engine: Engine, command: tuple[str, ...]) -> None:
    found = start(engine)
    first = int(str(found["pid"])), start_time(int(str(found["pid"])))
    kill(engine.monitor_of(str(found["id"])))
    assert engine.mounts() != []
    engine.ok(*command)
    assert engine.mounts() == []
    assert start_time(first[0]) != first[1]
    if command[0] == "ps":
        after = engine.container("box1")
        assert (after["state"], after["exit_code"], after["error"]) == ("exited", 137, "its monitor was killed")
        engine.ok("rm", "box1")
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_a_killed_monitor_of_a_container_with_rm_leaves_nothing_after_ps(engine: Engine) -> None:
    found = start(engine, "--rm")
    kill(engine.monitor_of(str(found["id"])))
    engine.ok("ps")
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_a_killed_monitor_ends_the_foreground_command_with_a_line(engine: Engine) -> None:
    with engine.started("run", "box", *WAITS) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"up\n"
        kill(engine.monitor_of(engine.containers()[0]["id"]))
        assert process.wait(TIMEOUT) == 125
        assert b"the monitor of the container was killed; clean up with: unionfs ps\n" in process.stderr.read()


def test_a_runtime_that_is_killed_while_it_makes_the_container_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    runtime = tmp_path / "runc"
    runtime.write_text('#!/bin/sh\ncase "$*" in *" create "*) kill -9 $$;; esac\nexec runc "$@"\n')
    runtime.chmod(0o755)
    ended = engine.run("run", "--rm", "--runtime", runtime, "box", "true")
    assert ended == (125, "", "unionfs: runc: runc create was killed by signal 9\n")
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_a_runtime_that_is_killed_after_it_made_the_container_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    runtime = tmp_path / "runc"
    runtime.write_text('#!/bin/sh\ncase "$*" in *" start "*) kill -9 $$;; esac\nexec runc "$@"\n')
    runtime.chmod(0o755)
    ended = engine.run("run", "--rm", "--runtime", runtime, "box", "sleep", "1000")
    assert ended == (125, "", "unionfs: runc: runc start was killed by signal 9\n")
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_rm_refuses_what_runs_and_with_force_kills_it(engine: Engine) -> None:
    start(engine)
    ended = engine.run("rm", "box1")
    assert ended.status == 1
    assert ended.stderr.startswith("unionfs: box1: the container runs; stop it first")
    assert engine.ok("rm", "-f", "box1") == "box1\n"
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_background_processes_of_a_container_end_with_its_first_one(engine: Engine) -> None:
    engine.ok("run", "--rm", "box", "sh", "-c", "sleep 1000 & sleep 1001 & true")
    assert engine.leftovers() == []


def test_a_directory_in_use_from_outside_does_not_keep_the_mount(engine: Engine) -> None:
    found = start(engine)
    fd = os.open(Path(str(found["rootfs"]), "etc"), os.O_RDONLY)
    try:
        engine.ok("stop", "box1")
        assert engine.mounts() == []
    finally:
        os.close(fd)


def test_a_layer_that_was_prepared_for_a_container_that_never_came_goes_with_the_next_ps(engine: Engine) -> None:
    from unionfs.store.store import open_store

    store = open_store(engine.root)
    labels = {"unionfs.container": "never", "unionfs.maker": "1 0"}
    store.snapshots.prepare("container-never", None, labels=labels)
    store.close()
    assert engine.leftovers() != []
    engine.ok("ps")
    assert engine.leftovers() == []


def test_cgroups_that_a_killed_runtime_has_forgotten_go_with_the_container(engine: Engine) -> None:
    engine.ok("run", "--name", "ended", "box", "true")
    cgroup = Path(f"/sys/fs/cgroup/freezer/unionfs-{engine.container('ended')['id']}")
    if not cgroup.parent.is_dir():
        cgroup = Path(f"/sys/fs/cgroup/unionfs-{engine.container('ended')['id']}")
    cgroup.mkdir()
    engine.ok("rm", "ended")
    assert not cgroup.exists()
