"""Stopping a container's processes by signals: real processes in a namespace of processes, without a container around them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import wait_until
from unionfs.containers.container import Container
from unionfs.containers.options import RunOptions
from unionfs.containers.signal_pause import let_go_on, stop_all
from unionfs.containers.status import Status, write_status
from unionfs.mounter.processes import start_time

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a namespace of processes")

_SCRIPT = "sleep 600 & sleep 601 & unshare --pid --fork sleep 602 & echo begun; wait"


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def below(pid: int) -> list[int]:
    return [pid, *(one for child in children(pid) for one in below(child))]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", _SCRIPT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        (first,) = children(process.pid)
        wait_until(lambda: len(below(first)) == 5)
        write_status(tmp_path, Status("running", first, start_time(first)))
        try:
            yield Container("id", "name", "image", "snapshot", RunOptions("image"), 0, os.getpid(), 0, tmp_path)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)


def first_of(container: Container) -> int:
    pid = container.status().pid
    assert pid is not None
    return pid


def test_all_processes_are_stopped_and_go_on(container: Container) -> None:
    everybody = below(first_of(container))
    stop_all(container)
    assert {state_of(pid) for pid in everybody} == {"T"}
    let_go_on(container)
    wait_until(lambda: {state_of(pid) for pid in everybody} == {"S"})
    assert os.listdir(container.directory) == ["status.json"]


def test_process_that_was_stopped_before_stays_so(container: Container) -> None:
    one = children(first_of(container))[0]
    os.kill(one, signal.SIGSTOP)
    wait_until(lambda: state_of(one) == "T")
    stop_all(container)
    let_go_on(container)
    wait_until(lambda: state_of(first_of(container)) == "S")
    assert state_of(one) == "T"


def test_note_of_a_killed_command_that_was_not_complete_lets_all_go_on(container: Container) -> None:
    stop_all(container)
    (container.directory / "stopped.json").write_text(json.dumps([])[:1])
    let_go_on(container)
    wait_until(lambda: {state_of(pid) for pid in below(first_of(container))} == {"S"})


def test_nothing_is_let_go_that_nobody_stopped(container: Container) -> None:
    one = children(first_of(container))[0]
    os.kill(one, signal.SIGSTOP)
    wait_until(lambda: state_of(one) == "T")
    let_go_on(container)
    assert state_of(one) == "T"
