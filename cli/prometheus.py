"""The figures of unions as metrics of Prometheus.

Names follow https://prometheus.io/docs/practices/naming/: base units (seconds, bytes), ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from unionfs.fuse.request_times import Times
from unionfs.mounter.control import ask
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.registry import RegisteredMount, State

_EXPONENTS = range(10, 35, 2)
"""Limits of the buckets: 2 ** n ns, from 1 µs to 17 s, each four times the last; fixed, so that mounts can be summed up."""

_GAUGES = {
    "unionfs_inodes": ("union", "inodes", "Inodes that the kernel knows."),
    "unionfs_real_files_open": ("union", "open_files", "Files and directories of layers held open."),
    "unionfs_layers": ("union", "layers", "Layers, the upper one included."),
    "unionfs_daemon_resident_bytes": ("process", "resident_bytes", "Resident memory of the daemon."),
    "unionfs_daemon_open_files": ("process", "open_files", "Descriptors of the daemon."),
}
_COUNTERS = {
    "unionfs_copy_ups_total": ("union", "copy_ups", "Objects copied up."),
    "unionfs_copied_up_bytes_total": ("union", "copied_up_bytes", "Data copied up."),
    "unionfs_requests_waited_total": ("requests", "blocking", "Times that a request had to wait for work in a thread."),
    "unionfs_request_failures_total": ("requests", "failures", "Requests that failed by a defect of the daemon; see its log."),
    "unionfs_daemon_cpu_seconds_total": ("process", "cpu_seconds", "Processor time of the daemon, user and system."),
}


def registry_of(mounts: Sequence[RegisteredMount]) -> CollectorRegistry:
    """A registry with the figures of ``mounts`` as they are now.

    One whose daemon is dead, or does not answer, has just ``unionfs_up`` 0.
    """
    registry = CollectorRegistry()
    registry.register(_Unions([(mount.record.mountpoint, _status(mount)) for mount in mounts]))
    return registry


def _status(mount: RegisteredMount) -> dict[str, Any] | None:
    if mount.state is State.DEAD:
        return None
    try:
        status: dict[str, Any] = ask(mount.directory, "status")
    except DaemonError:
        return None
    return status


class _Unions(Collector):
    def __init__(self, unions: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
        """Mount points and the answers of their daemons; None: there was none."""
        self._unions = unions

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("unionfs_up", "Whether the daemon of the union is alive.", labels=["merged"])
        for merged, status in self._unions:
            up.add_metric([merged], float(status is not None))
        yield up
        living = [(merged, status) for merged, status in self._unions if status is not None]
        for name, (section, key, text) in _GAUGES.items():
            yield _filled(GaugeMetricFamily(name, text, labels=["merged"]), living, section, key)
        for name, (section, key, text) in _COUNTERS.items():
            yield _filled(CounterMetricFamily(name, text, labels=["merged"]), living, section, key)
        yield from _requests(living)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, living: Iterable[tuple[str, dict[str, Any]]], section: str, key: str
) -> Metric:
    for merged, status in living:
        figures = status.get(section, {})
        # Not there: the daemon was started by an older version.
        if key in figures:
            family.add_metric([merged], figures[key])
    return family


def _requests(living: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Metric]:
    labels = ["merged", "request"]
    times = HistogramMetricFamily(
        "unionfs_request_duration_seconds", "How long requests of the kernel took, from reading to the reply.", labels=labels
    )
    errors = CounterMetricFamily("unionfs_request_errors_total", "Requests answered with an errno.", labels=labels)
    for merged, status in living:
        for request, kind in sorted(status.get("request_times", {}).items()):
            times.add_metric([merged, request], _cumulative(kind), kind["total_ns"] / 1e9)
            errors.add_metric([merged, request], kind["errors"])
    yield times
    yield errors


def _cumulative(kind: Times) -> list[tuple[str, float]]:
    def below(limit: int) -> int:
        return sum(count for exponent, count in kind["buckets"] if exponent <= limit)

    limits = [(repr((1 << exponent) / 1e9), float(below(exponent))) for exponent in _EXPONENTS]
    return [*limits, ("+Inf", float(sum(count for _, count in kind["buckets"])))]
