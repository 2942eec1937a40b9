"""Containers of the benchmark: whatever becomes of a start, nothing of the container stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from unionfs.bench.errors import BenchError
from unionfs.bench.program import run_program
from unionfs.bench.workload import Corpora, Place
from unionfs.bench.workloads import containers


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A busybox root in a plain directory, with the bundles of the workload."""
    for name in ("merged", "scratch", "corpora"):
        (tmp_path / name).mkdir()
    place = Place(tmp_path / "merged", tmp_path / "scratch", Corpora(tmp_path / "corpora"))
    [layer] = containers.WORKLOADS[0].layers(place.corpora)
    run_program(["cp", "--archive", f"{layer}/.", place.merged])
    containers.WORKLOADS[0].prepare(place)
    return place


def left_behind(place: Place) -> list[str]:
    """Containers that runc knows, and cgroups of this process's containers."""
    known = run_program(["runc", "--root", place.scratch / "runc", "list", "--quiet"]).decode().split()
    cgroups = Path("/sys/fs/cgroup").rglob(f"unionfs-bench-{os.getpid()}-*")
    return [*known, *map(str, cgroups)]


def test_container_that_cannot_start_is_reported_and_gone(place: Place) -> None:
    (place.merged / "bin/touch").unlink()
    with pytest.raises(BenchError, match=r"^runc: exit status 1: .*no such file"):
        containers.WORKLOADS[0].run(place)
    assert left_behind(place) == []


def test_container_that_runs_at_an_interrupt_is_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    config = place.scratch / "bundle0/config.json"
    spec = json.loads(config.read_text())
    spec["process"]["args"] = ["/bin/sleep", "1000"]
    config.write_text(json.dumps(spec))
    seen: list[str] = []

    def interrupted(command: list[str | Path], *, home: Path) -> bytes:
        if "run" not in command:
            return run_program(command, home=home)
        # The container keeps the standard output it was started with, to whose end `run_program` would listen.
        run_program(["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *command[:4], "--detach", *command[4:]], home=home)
        seen.extend(left_behind(place))
        raise KeyboardInterrupt

    monkeypatch.setattr(containers, "run_program", interrupted)
    with pytest.raises(KeyboardInterrupt):
        containers.WORKLOADS[0].run(place)
    assert f"unionfs-bench-{os.getpid()}-0" in seen
    assert left_behind(place) == []
