"""All measurements of a run: rounds, in which the systems take turns at each workload."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unionfs.bench.measurement import Measurement, measure
from unionfs.bench.systems import System
from unionfs.bench.workload import Workload
from unionfs.bench.workspace import Workspace

Progress = Callable[[int, str, str], None]
"""Told before each measurement: round (from 1), name of the workload, name of the system."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.  ``limit`` is in seconds, for each measurement."""

    workloads: Sequence[Workload]
    systems: Sequence[System]
    rounds: int
    limit: float

    def steps(self) -> int:
        """How many measurements there are at most."""
        return len(self.workloads) * len(self.systems) * self.rounds


@dataclass(slots=True)
class Results:
    """``not_measured``: what could not be tried: name of the workload, or of the system -> why."""

    measurements: list[Measurement] = field(default_factory=list)
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
    workloads = [workload for workload in plan.workloads if workload.name not in results.not_measured]
    systems = [system for system in plan.systems if system.name not in results.not_measured]
    for workload in workloads:
        workload.layers(workspace.corpora)  # made before anything is timed
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
    return results


def rotated(systems: Sequence[System], round_number: int) -> list[System]:
    """Each round begins with another system, so that none is always measured after the same one."""
    start = round_number % len(systems) if systems else 0
    return [*systems[start:], *systems[:start]]


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
