"""One measurement: a workload on a system, mounted for it alone."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unionfs.bench.corpora import Corpora
from unionfs.bench.errors import BenchError, WrongResultError
from unionfs.bench.isolated import run_isolated
from unionfs.bench.mounting import Mounted, abort, mounted
from unionfs.bench.systems import Layout, System
from unionfs.bench.workload import Place, Workload


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one measurement found.  Times are in seconds; None where it failed before they were known.

    ``seconds`` is the work by the wall clock, ``daemon_cpu`` the CPU time of the daemon meanwhile (None without a daemon), and
    ``mount_seconds`` the time from the start of the mount command until the root answers (None for what is not mounted).
    """

    workload: str
    system: str
    round: int
    layers: int
    seconds: float | None = None
    daemon_cpu: float | None = None
    mount_seconds: float | None = None
    failure: str | None = None


def measure(
    workload: Workload, system: System, round_number: int, directory: Path, corpora: Corpora, limit: float
) -> Measurement:
    """Do ``workload`` on ``system`` in the new ``directory``, which is removed again.  ``limit`` is in seconds, for each of
    mounting and working.  Whatever goes wrong in it is told in `Measurement.failure`."""
    layers = workload.layers(corpora)
    result = Measurement(workload.name, system.name, round_number, len(layers))
    layout = Layout(directory)
    try:
        with mounted(system, layers, layout, limit) as mount:
            work = _Work(workload, Place(layout.merged, layout.scratch, corpora), mount)
            found = run_isolated(work, limit, lambda: abort(layout))
    except (BenchError, OSError) as error:
        return dataclasses.replace(result, failure=str(error).replace(f"{directory}/", ""))
    first_answer = found.pop("first_answer")
    return dataclasses.replace(result, mount_seconds=mount.seconds + first_answer if system.mounts else None, **found)


@dataclass(frozen=True, slots=True)
class _Work:
    workload: Workload
    place: Place
    mount: Mounted

    def __call__(self) -> dict[str, Any]:
        first_answer = timed(lambda: os.stat(self.place.merged))
        self.workload.prepare(self.place)
        daemon = self.mount.daemon
        before = daemon.cpu_seconds()
        seconds = timed(lambda: self.workload.run(self.place))
        cpu = daemon.cpu_seconds() - before if daemon.pids else None
        try:
            self.workload.check(self.place)
        except WrongResultError as error:
            raise BenchError(f"wrong result: {error}") from error
        return {"first_answer": first_answer, "seconds": seconds, "daemon_cpu": cpu}


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes, without pauses for garbage of what came before it."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - started) / 1e9
    finally:
        gc.enable()
