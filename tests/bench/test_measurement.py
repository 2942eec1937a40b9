"""One measurement, above all one that goes wrong."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.made_up import workloads
from tests.mounts import mounts_under
from unionfs.bench.corpora import Corpora
from unionfs.bench.daemon import Daemon
from unionfs.bench.errors import BenchError, TimeLimitError
from unionfs.bench.isolated import run_isolated
from unionfs.bench.measurement import Measurement, measure
from unionfs.bench.runner import Plan, rotated, run_plan
from unionfs.bench.systems import SYSTEMS, System
from unionfs.bench.workspace import Workspace

# Mounts, and reads requests without ever answering one.
HUNG = """
import os, sys
from unionfs.linux.mount import mount
device = os.open("/dev/fuse", os.O_RDWR)
mount(b"hung", os.fsencode(sys.argv[1]), b"fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0".encode())
if os.fork() == 0:
    while True:
        os.read(device, 1 << 17)
"""

# Does not mount and leaves a process behind.
LEAVES_DAEMON = """
import os, signal
if os.fork() == 0:
    signal.pause()
raise SystemExit("out of order")
"""


def system(script: str) -> System:
    return System("broken", "broken", (), lambda layout, _layers: [[sys.executable, "-c", script, layout.merged]])


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    (tmp_path / "corpora").mkdir()
    return Workspace(tmp_path, "as it comes", Corpora(tmp_path / "corpora", scale=0.001))


def measured(broken: System, place: Workspace, limit: float) -> Measurement:
    (walk,) = workloads("walk-cold")
    directory = place.new_place()
    result = measure(walk, broken, 0, directory, place.corpora, limit)
    assert Daemon(directory).pids == ()
    assert list(mounts_under(place.directory)) == []
    assert not directory.exists()
    return result


def test_mount_that_does_not_answer_is_a_failure_and_is_taken_away(place: Workspace) -> None:
    # As long as Python may take to start on a busy machine: the command that mounts must end in time.
    assert measured(system(HUNG), place, limit=5).failure == "no end after 5 s"


def test_mount_command_that_fails_is_a_failure_with_what_it_said(place: Workspace) -> None:
    assert measured(system(LEAVES_DAEMON), place, 30).failure == f"{sys.executable}: exit status 1: out of order"


def test_mount_command_that_mounts_nothing_is_a_failure(place: Workspace) -> None:
    assert measured(system("pass"), place, 30).failure == "broken: the command has ended and nothing is mounted"


def test_system_that_failed_is_not_asked_again_and_does_not_stop_the_others(place: Workspace) -> None:
    told: list[tuple[int, str, str]] = []
    kernel = next(known for known in SYSTEMS if known.name == "kernel")
    plan = Plan(workloads("walk-cold"), [system("raise SystemExit(1)"), kernel], 2, 30)
    results = run_plan(plan, place, lambda *step: told.append(step))
    assert [(m.system, m.round, m.failure is None) for m in results.measurements] == [
        ("broken", 0, False),
        ("kernel", 0, True),
        ("kernel", 1, True),
    ]
    assert len(told) == plan.steps() == 4


def test_missing_program_is_told_and_the_rest_measured(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    absent = System("absent", "absent", ("no-such-program",), lambda _layout, _layers: [])
    results = run_plan(Plan(workloads("untar"), [absent], 1, 30), place, lambda *_: None)
    assert results.not_measured == {"absent": "no no-such-program", "untar": "no tar"}
    assert results.measurements == []


def test_layers_that_cannot_be_made_are_told_and_the_rest_measured(place: Workspace) -> None:
    (place.corpora.directory / ".small-tree-0").write_text("in the way")
    kernel = next(known for known in SYSTEMS if known.name == "kernel")
    results = run_plan(Plan(workloads("walk-cold", "rename"), [kernel], 1, 30), place, lambda *_: None)
    assert list(results.not_measured) == ["walk-cold"]
    assert results.not_measured["walk-cold"].startswith("no lower layers: ")
    assert [(m.workload, m.failure) for m in results.measurements] == [("rename", None)]


def test_each_round_begins_with_another_system() -> None:
    three = SYSTEMS[:3]
    assert [rotated(three, number)[0] for number in range(4)] == [three[0], three[1], three[2], three[0]]
    assert all(set(rotated(three, number)) == set(three) for number in range(4))


def _raise(error: Exception) -> dict[str, Any]:
    raise error


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: _raise(FileNotFoundError(2, "No such file or directory", "/x")), "No such file or directory: /x"),
        (lambda: _raise(KeyError("x")), "KeyError: 'x'"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the process that did the work was killed"),
    ],
    ids=["system call", "bug", "killed"],
)
def test_error_of_isolated_work_comes_back_in_one_line(work: Callable[[], dict[str, Any]], message: str) -> None:
    with pytest.raises(BenchError) as caught:
        run_isolated(work, 30, lambda: None)
    assert str(caught.value) == message


def test_isolated_work_that_does_not_end_is_killed_with_all_it_started() -> None:
    reader, writer = os.pipe()

    def work() -> dict[str, Any]:
        os.fork()
        signal.pause()
        return {}

    with pytest.raises(TimeLimitError):
        run_isolated(work, 0.1, lambda: None)
    os.close(writer)
    # The end of the file: nobody who inherited the other side is there any more.
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_isolated_work_changes_nothing_here() -> None:
    changed = []
    assert run_isolated(lambda: {"pid": os.getpid(), "length": changed.append(1)}, 30, lambda: None)["pid"] != os.getpid()
    assert changed == []
