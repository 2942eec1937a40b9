"""All measurements of a run: rounds, in which the systems take turns at each workload."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unionfs.bench.daemon_figures import NAME as DAEMON
from unionfs.bench.daemon_figures import DaemonFigures, measure_daemon
from unionfs.bench.errors import BenchError
from unionfs.bench.isolated import explained
from unionfs.bench.measurement import Measurement, measure
from unionfs.bench.systems import System
from unionfs.bench.workload import Workload
from unionfs.bench.workspace import Workspace

Progress = Callable[[int, str, str], None]
"""Told before each measurement: round (from 1), name of the workload, name of the system."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.  ``limit`` is in seconds, for each measurement.  ``daemons``: whether memory and idle CPU time of the
    daemons are measured as well, the latter over ``idle_seconds``."""

    workloads: Sequence[Workload]
    systems: Sequence[System]
    rounds: int
    limit: float
    daemons: bool = False
    idle_seconds: float = 5.0

    def steps(self) -> int:
        """How many times `Progress` is told something, at most."""
        return len(self.workloads) * len(self.systems) * self.rounds + len(self.systems) * self.daemons


@dataclass(slots=True)
class Results:
    """``daemons``: by system, of those that have one.  ``not_measured``: a workload or system that could not be tried -> why."""

    measurements: list[Measurement] = field(default_factory=list)
    daemons: dict[str, DaemonFigures] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def failed(self, workload: str, system: str) -> str | None:
        """Why ``system`` failed at ``workload``; None if it did not."""
        for measurement in self.measurements:
            if (measurement.workload, measurement.system) == (workload, system) and measurement.failure:
                return measurement.failure
        return None


def run_plan(plan: Plan, workspace: Workspace, progress: Progress) -> Results:
    """Do all measurements.

    A system that failed at a workload is not asked again.  Raises only what makes all of it impossible.
    """
    results = Results(not_measured=_missing(plan))
    _make_layers(plan.workloads, workspace, results.not_measured)
    workloads = [workload for workload in plan.workloads if workload.name not in results.not_measured]
    systems = [system for system in plan.systems if system.name not in results.not_measured]
    for round_number in range(plan.rounds):
        for workload in workloads:
            layers = len(workload.layers(workspace.corpora))
            for system in rotated(systems, round_number):
                progress(round_number + 1, workload.name, system.name)
                too_many = system.max_layers is not None and layers > system.max_layers
                if too_many or results.failed(workload.name, system.name):
                    continue
                results.measurements.append(
                    measure(workload, system, round_number, workspace.new_place(), workspace.corpora, plan.limit)
                )
    # Once only: neither is a matter of luck.
    for system in systems if plan.daemons else ():
        progress(plan.rounds, DAEMON, system.name)
        figures = measure_daemon(system, workspace.new_place(), workspace.corpora, plan.limit, plan.idle_seconds)
        if figures is not None:
            results.daemons[system.name] = figures
    return results


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
