"""Many processes at once on one union: no error that a plain directory would not give, and nothing of the mount stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import Tree, build
from tests.behaviour.tree import Snapshot, differences
from tests.mounts import ALL, OURS, Backend, run_unionfs

from .churn import LOWER_FILES, NAMES, lower_content

PROCESSES = 8
OPERATIONS = 3000
"""What each process does in a run of the whole suite; `UNIONFS_CHURN_SECONDS` in the environment makes it a time instead."""

DAEMON_END = 5.0
"""Seconds by which the daemon of a mount must have ended; a second is the aim, the rest is for a busy machine."""

SECONDS = float(os.environ.get("UNIONFS_CHURN_SECONDS", "0"))

LOWER: Tree = {
    **{f"own-{seed}/lower{n}": lower_content(seed, n) for seed in range(PROCESSES) for n in range(LOWER_FILES)},
    **{f"shared/{name}": name.encode() for name in NAMES[::2]},
}


@pytest.fixture(params=[None, *ALL], ids=lambda backend: backend.name if backend else "plain")
def backend(request: pytest.FixtureRequest) -> Backend | None:
    """Every backend, and None for a plain directory: what fails there is no fault of a union."""
    return request.param


def make_directories(top: Path) -> tuple[Path, Path, Path, Path]:
    """The lower with `LOWER` in it, the upper, the work directory and the mount point."""
    lower, upper, work, merged = (top / name for name in ("lower", "upper", "work", "merged"))
    build(lower, LOWER)
    for each in (upper, work, merged):
        each.mkdir()
    return lower, upper, work, merged


@pytest.fixture
def directory(backend: Backend | None, tmp_path: Path) -> Iterator[Path]:
    """A directory with `LOWER` in it.  At the end the lower has not changed, and a new mount shows the same tree."""
    lower, upper, work, merged = make_directories(tmp_path)
    if backend is None:
        yield lower
        return
    before = Snapshot.of(lower, exact=True)
    backend.mount([lower], upper, work, merged)
    try:
        yield merged
        churned = Snapshot.of(merged)
        backend.umount(merged)
        backend.mount([lower], upper, work, merged)
        assert differences(churned, Snapshot.of(merged)) == []
    finally:
        backend.umount(merged)
    assert differences(before, Snapshot.of(lower, exact=True)) == []


def churn(directory: Path, operations: int, seconds: float = 0) -> list[str]:
    """Let `PROCESSES` processes churn ``directory``; what each printed.  Anything on their standard error fails the test."""
    command = [sys.executable, "-m", "tests.workloads.churn", directory]
    processes = [
        subprocess.Popen(
            [*command, str(seed), str(operations), str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in range(PROCESSES)
    ]
    try:
        results = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [stderr for _, stderr in results] == [""] * PROCESSES
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return [stdout for stdout, _ in results]


@pytest.mark.timeout(SECONDS + 240)
def test_eight_processes_see_no_error_that_a_plain_directory_would_not_give(directory: Path) -> None:
    done = churn(directory, OPERATIONS, SECONDS)
    assert SECONDS or done == [f"{OPERATIONS}\n"] * PROCESSES


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie: in a container the first process may be one that reaps nobody."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == b"Z"


@pytest.mark.parametrize("backend", OURS, ids=lambda backend: backend.name)
def test_umount_after_churn_ends_the_daemon(backend: Backend, tmp_path: Path) -> None:
    lower, upper, work, merged = make_directories(tmp_path)
    backend.mount([lower], upper, work, merged)
    churn(merged, operations=100)
    daemon = json.loads(run_unionfs(["status", "--json", merged]))["pid"]
    assert not has_ended(daemon)
    backend.umount(merged)
    deadline = time.monotonic() + DAEMON_END
    while not has_ended(daemon) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert has_ended(daemon)
