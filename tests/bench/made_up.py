"""Results that nobody measured."""

from __future__ import annotations

from unionfs.bench.measurement import Measurement
from unionfs.bench.report import Report, build_report
from unionfs.bench.runner import Results
from unionfs.bench.systems import SYSTEMS
from unionfs.bench.workload import Workload
from unionfs.bench.workloads import ALL


def workloads(*names: str) -> list[Workload]:
    """The workloads of these names, in this order."""
    return [next(workload for workload in ALL if workload.name == name) for name in names]


def report(
    times: dict[str, dict[str, list[float]]],
    failures: dict[tuple[str, str], str] | None = None,
    missing: dict[str, str] | None = None,
) -> Report:
    """``times``: workload -> system -> seconds of each round; ``failures``: (workload, system) -> why, in a round after those."""
    measurements = [
        Measurement(workload, system, number, 2, seconds=seconds, daemon_cpu=None if system == "kernel" else seconds / 2)
        for workload, by_system in times.items()
        for system, rounds in by_system.items()
        for number, seconds in enumerate(rounds)
    ]
    measurements += [Measurement(workload, system, 9, 2, failure=why) for (workload, system), why in (failures or {}).items()]
    named = {measurement.system for measurement in measurements}
    systems = [system for system in SYSTEMS if system.name in named]
    return build_report(workloads(*times), systems, Results(measurements, not_measured=missing or {}), 1)
