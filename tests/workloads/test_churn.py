"""Many processes at once on one union: no error that a plain directory would not give, and nothing of the mount stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import Tree, build
from tests.behaviour.tree import Snapshot, differences
from tests.mounts import ALL, Backend

from .churn import LOWER_FILES, NAMES, lower_content

PROCESSES = 8
OPERATIONS = 3000
"""What each process does in a run of the whole suite; `UNIONFS_CHURN_SECONDS` in the environment makes it a time instead."""

SECONDS = float(os.environ.get("UNIONFS_CHURN_SECONDS", "0"))

LOWER: Tree = {
    **{f"own-{seed}/lower{n}": lower_content(seed, n) for seed in range(PROCESSES) for n in range(LOWER_FILES)},
    **{f"shared/{name}": name.encode() for name in NAMES[::2]},
}


@pytest.fixture(params=[None, *ALL], ids=lambda backend: backend.name if backend else "plain")
def backend(request: pytest.FixtureRequest) -> Backend | None:
    """Every backend, and None for a plain directory: what fails there is no fault of a union."""
    return request.param


@pytest.fixture
def directory(backend: Backend | None, tmp_path: Path) -> Iterator[Path]:
    """A directory with `LOWER` in it.  At the end the lower has not changed, and a new mount shows the same tree."""
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    build(lower, LOWER)
    if backend is None:
        yield lower
        return
    for each in (upper, work, merged):
        each.mkdir()
    before = Snapshot.of(lower, exact=True)
    backend.mount([lower], upper, work, merged)
    yield merged
    churned = Snapshot.of(merged)
    backend.umount(merged)
    backend.mount([lower], upper, work, merged)
    assert differences(churned, Snapshot.of(merged)) == []
    backend.umount(merged)
    assert differences(before, Snapshot.of(lower, exact=True)) == []


@pytest.mark.timeout(SECONDS + 240)
def test_eight_processes_see_no_error_that_a_plain_directory_would_not_give(directory: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.workloads.churn", directory, str(seed), str(OPERATIONS), str(SECONDS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
    if not SECONDS:
        assert [int(stdout) for stdout, _ in results] == [OPERATIONS] * PROCESSES
