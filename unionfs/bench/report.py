"""What came out: medians, ratios to the kernel's OverlayFS, and their means."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unionfs.bench.copy_up_latency import Latency, over_rounds
from unionfs.bench.runner import Results
from unionfs.bench.systems import OTHER, PLAIN, REFERENCE, System
from unionfs.bench.workload import Workload

FORMAT = 1
"""Of the JSON; a number more if something in it changes its meaning."""


@dataclass(frozen=True, slots=True)
class Row:
    """One workload.  ``seconds`` and ``cpu``: medians by system, of those that did it in all rounds; ``failures``: why others
    did not."""

    name: str
    title: str
    group: str
    seconds: Mapping[str, float]
    cpu: Mapping[str, float]
    failures: Mapping[str, str]

    def ratios(self, base: str = REFERENCE) -> dict[str, float]:
        """How many times the time of ``base`` each system took; empty where ``base`` was not measured."""
        if base not in self.seconds:
            return {}
        return {system: seconds / self.seconds[base] for system, seconds in self.seconds.items()}


@dataclass(frozen=True, slots=True)
class Report:
    """``systems``: those that were measured, in the order of the table.  ``scale``: what the sizes were multiplied by."""

    rows: Sequence[Row]
    systems: Sequence[str]
    results: Results
    scale: float

    def common_rows(self) -> list[Row]:
        """The rows that all unions have.  The plain directory does not count: it has no layers."""
        unions = [system for system in self.systems if system != PLAIN]
        return [row for row in self.rows if all(system in row.seconds for system in unions)]

    def means(self, base: str) -> dict[str, float]:
        """Geometric means of the ratios to ``base`` over `common_rows`, of all unions; empty without anything to compare."""
        ratios = [row.ratios(base) for row in self.common_rows()]
        unions = [system for system in self.systems if system != PLAIN]
        if base not in unions or not ratios:
            return {}
        return {system: statistics.geometric_mean(row[system] for row in ratios) for system in unions}

    def mount_times(self) -> dict[int, dict[str, float]]:
        """Number of layers -> system -> median seconds from the start of the mount command until the root answered,
        over all measurements with so many layers."""
        times: dict[int, dict[str, list[float]]] = {}
        for measurement in self.results.measurements:
            if measurement.mount_seconds is not None:
                times.setdefault(measurement.layers, {}).setdefault(measurement.system, []).append(measurement.mount_seconds)
        return {count: _medians(by_system) for count, by_system in sorted(times.items())}

    def latencies(self) -> dict[str, Latency]:
        """Latencies during a copy-up, by system, of those that could be measured in all rounds."""
        rounds: dict[str, list[Latency]] = {}
        for found in self.results.latencies:
            if found.latency is not None and not self.results.latency_failed(found.system):
                rounds.setdefault(found.system, []).append(found.latency)
        return {system: over_rounds(latencies) for system, latencies in rounds.items()}

    def as_json(self, environment: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """All that is known, each measurement included.  Seconds and bytes; ``ratios`` are to the kernel's OverlayFS."""
        return {
            "format": FORMAT,
            "environment": dict(environment),
            "options": dict(options),
            "systems": list(self.systems),
            "workloads": [_row_as_json(row) for row in self.rows],
            "geometric_means": {base: self.means(base) for base in (REFERENCE, OTHER)},
            "common_workloads": [row.name for row in self.common_rows()],
            "mount_seconds": {str(count): times for count, times in self.mount_times().items()},
            "copy_up_latency": {system: dataclasses.asdict(latency) for system, latency in self.latencies().items()},
            "daemons": {name: dataclasses.asdict(figures) for name, figures in self.results.daemons.items()},
            "not_measured": self.results.not_measured,
            "measurements": [dataclasses.asdict(measurement) for measurement in self.results.measurements],
            "copy_up_latency_measurements": [dataclasses.asdict(latency) for latency in self.results.latencies],
        }


def build_report(workloads: Iterable[Workload], systems: Iterable[System], results: Results, scale: float) -> Report:
    """Put ``results`` together: a row for each workload of which something was tried."""
    names = [system.name for system in systems if system.name not in results.not_measured]
    rows = [_row(workload, results) for workload in workloads if workload.name not in results.not_measured]
    return Report(rows, names, results, scale)


def _row(workload: Workload, results: Results) -> Row:
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    for measurement in results.measurements:
        if measurement.workload != workload.name:
            continue
        if measurement.failure is not None:
            failures[measurement.system] = measurement.failure
        if measurement.seconds is not None:
            seconds.setdefault(measurement.system, []).append(measurement.seconds)
        if measurement.daemon_cpu is not None:
            cpu.setdefault(measurement.system, []).append(measurement.daemon_cpu)
    for system in failures:
        # What works in some rounds only is not known to do the work.
        seconds.pop(system, None)
        cpu.pop(system, None)
    return Row(workload.name, workload.title, workload.group, _medians(seconds), _medians(cpu), failures)


def _medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {system: statistics.median(several) for system, several in values.items()}


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "group": row.group,
        "median_seconds": dict(row.seconds),
        "ratios": row.ratios(),
        "median_daemon_cpu_seconds": dict(row.cpu),
        "failures": dict(row.failures),
    }
