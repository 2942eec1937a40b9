"""All measurements of a run: rounds, in which the systems take turns at each workload."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from unionfs.bench.copy_up_latency import NAME as COPY_UP_LATENCY
from unionfs.bench.copy_up_latency import CopyUpLatency, measure_copy_up_latency
from unionfs.bench.daemon_figures import NAME as DAEMON
from unionfs.bench.daemon_figures import DaemonFigures, measure_daemon
from unionfs.bench.errors import BenchError
from unionfs.bench.isolated import explained
from unionfs.bench.measurement import Measurement, measure
from unionfs.bench.systems import System
from unionfs.bench.workload import Workload
from unionfs.bench.workspace import Workspace

FIGURES = {
    DAEMON: "memory, idle CPU time",
    COPY_UP_LATENCY: "other requests while 1 GiB is copied up",
}
"""What can be measured besides the workloads: name -> what it is."""

Progress = Callable[[int, str, str], None]
"""Told before each measurement: round (from 1), name of the workload, name of the system."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.  ``limit`` is in seconds, for each measurement.  ``figures``: names of what is measured besides the
    workloads (see `FIGURES`); ``idle_seconds``: over which the CPU time of an idle daemon is."""

    workloads: Sequence[Workload]
    systems: Sequence[System]
    rounds: int
    limit: float
    figures: Collection[str] = ()
    idle_seconds: float = 5.0

    def steps(self) -> int:
        """How many times `Progress` is told something, at most."""
        each_round = len(self.workloads) + (COPY_UP_LATENCY in self.figures)
        return len(self.systems) * (self.rounds * each_round + (DAEMON in self.figures))


@dataclass(slots=True)
class Results:
    """``latencies``: of what is mounted.  ``daemons``: by system, of those that have one.  ``not_measured``: a workload or system
    that could not be tried -> why."""

    measurements: list[Measurement] = field(default_factory=list)
    latencies: list[CopyUpLatency] = field(default_factory=list)
    daemons: dict[str, DaemonFigures] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def failed(self, workload: str, system: str) -> str | None:
        """Why ``system`` failed at ``workload``; None if it did not."""
        for measurement in self.measurements:
            if (measurement.workload, measurement.system) == (workload, system) and measurement.failure:
                return measurement.failure
        return None

    def latency_failed(self, system: str) -> bool:
        """Whether the latency during a copy-up could not be measured on ``system``."""
        return any(latency.system == system and latency.failure for latency in self.latencies)


def run_plan(plan: Plan, workspace: Workspace, progress: Progress) -> Results:
    """Do all measurements.

    A system that failed at a workload is not asked again.  Raises only what makes all of it impossible.
    """
    run = _Run(plan, workspace, Results(not_measured=_missing(plan)), progress)
    _make_layers(plan.workloads, workspace, run.results.not_measured)
    workloads = [workload for workload in plan.workloads if workload.name not in run.results.not_measured]
    systems = [system for system in plan.systems if system.name not in run.results.not_measured]
    for round_number in range(plan.rounds):
        turns = rotated(systems, round_number)
        for workload in workloads:
            run.measure_workload(workload, turns, round_number)
        if COPY_UP_LATENCY in plan.figures:
            run.measure_latencies(turns, round_number)
    # Once only: neither memory nor idling is a matter of luck.
    if DAEMON in plan.figures:
        run.measure_daemons(systems)
    return run.results


@dataclass(frozen=True, slots=True)
class _Run:
    """Does measurements with each of several systems, and adds what they find to ``results``."""

    plan: Plan
    workspace: Workspace
    results: Results
    progress: Progress

    def measure_workload(self, workload: Workload, systems: Sequence[System], round_number: int) -> None:
        corpora, limit = self.workspace.corpora, self.plan.limit
        layers = len(workload.layers(corpora))
        for system in systems:
            self.progress(round_number + 1, workload.name, system.name)
            too_many = system.max_layers is not None and layers > system.max_layers
            if too_many or self.results.failed(workload.name, system.name):
                continue
            found = measure(workload, system, round_number, self.workspace.new_place(), corpora, limit)
            self.results.measurements.append(found)

    def measure_latencies(self, systems: Sequence[System], round_number: int) -> None:
        corpora, limit = self.workspace.corpora, self.plan.limit
        for system in systems:
            self.progress(round_number + 1, COPY_UP_LATENCY, system.name)
            if self.results.latency_failed(system.name):
                continue
            found = measure_copy_up_latency(system, round_number, self.workspace.new_place(), corpora, limit)
            if found is not None:
                self.results.latencies.append(found)

    def measure_daemons(self, systems: Sequence[System]) -> None:
        plan, workspace = self.plan, self.workspace
        for system in systems:
            self.progress(plan.rounds, DAEMON, system.name)
            found = measure_daemon(system, workspace.new_place(), workspace.corpora, plan.limit, plan.idle_seconds)
            if found is not None:
                self.results.daemons[system.name] = found


def rotated(systems: Sequence[System], round_number: int) -> list[System]:
    """Each round begins with another system, so that none is always measured after the same one."""
    start = round_number % len(systems) if systems else 0
    return [*systems[start:], *systems[:start]]


def _make_layers(workloads: Sequence[Workload], workspace: Workspace, not_measured: dict[str, str]) -> None:
    """Make them all before anything is timed; what cannot be made is told in ``not_measured``."""
    for workload in workloads:
        if workload.name in not_measured:
            continue
        try:
            workload.layers(workspace.corpora)
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            not_measured[workload.name] = f"no lower layers: {explained(error)}"


def _missing(plan: Plan) -> dict[str, str]:
    reasons = {}
    for system in plan.systems:
        if program := system.missing_program():
            reasons[system.name] = f"no {program}"
    for workload in plan.workloads:
        lacking = [program for program in workload.requires if shutil.which(program) is None]
        if lacking:
            reasons[workload.name] = f"no {', '.join(lacking)}"
    return reasons
