"""A report as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from unionfs.bench.copy_up_latency import NAME as COPY_UP_LATENCY
from unionfs.bench.copy_up_latency import Latency
from unionfs.bench.daemon_figures import DaemonFigures
from unionfs.bench.report import Report, Row
from unionfs.bench.systems import OTHER, REFERENCE

_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Text under a title; ``notes`` come below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """As a table of GitHub's Markdown; numbers to the right."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---", *("---:" for _ in self.columns[1:])])]
        lines += [_line(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def tables(report: Report) -> list[Table]:
    """All tables of a report, without those that would be empty."""
    found = [_times(report), _cpu(report), _figures(report)]
    return [table for table in found if table.rows or table.notes]


def milliseconds(seconds: float) -> str:
    """Three digits that count: ``1,234``, ``12.3``, ``1.23``."""
    return _three_digits(seconds * 1000)


def ratio(value: float) -> str:
    """Three digits that count, and a multiplication sign."""
    return f"{_three_digits(value)}\N{MULTIPLICATION SIGN}"


def _three_digits(value: float) -> str:
    if 0 < value < 0.005:
        return "<0.01"
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _times(report: Report) -> Table:
    rows = [[row.title, *(_time_cell(row, system) for system in report.systems)] for row in report.rows]
    common = len(report.common_rows())
    for base in (REFERENCE, OTHER):
        if means := report.means(base):
            title = f"geometric mean of the ratios to {base}, {common} of {len(report.rows)} rows"
            rows.append([title, *(ratio(means[system]) if system in means else _NOTHING for system in report.systems)])
    return Table("Milliseconds, and the ratio to the kernel's OverlayFS", ["workload", *report.systems], rows, _notes(report))


def _time_cell(row: Row, system: str) -> str:
    if system in row.failures:
        return "failed"
    if system not in row.seconds:
        return _NOTHING
    time = milliseconds(row.seconds[system])
    ratios = row.ratios()
    return f"{time} ({ratio(ratios[system])})" if ratios and system != REFERENCE else time


def _notes(report: Report) -> list[str]:
    notes = []
    if report.scale != 1:
        notes.append(f"Sizes and counts are {report.scale:g} times those in the titles: what is found says little.")
    notes += [f"{name}: not measured: {why}" for name, why in report.results.not_measured.items()]
    notes += [f"{row.name}: failed on {system}: {why}" for row in report.rows for system, why in row.failures.items()]
    return notes


def _cpu(report: Report) -> Table:
    systems = [system for system in report.systems if any(system in row.cpu for row in report.rows)]
    if not systems:
        return Table("", [], [])
    rows = [
        [row.title, *(f"{row.cpu[system] * 1000:,.0f}" if system in row.cpu else _NOTHING for system in systems)]
        for row in report.rows
        if row.cpu
    ]
    return Table("CPU time of the daemon, milliseconds (counted by the kernel in steps of 10)", ["workload", *systems], rows)


def _figures(report: Report) -> Table:
    daemons = report.results.daemons
    latencies = report.latencies()
    known: list[Collection[str]] = [*report.mount_times().values(), daemons, latencies]
    systems = [system for system in report.systems if any(system in figures for figures in known)]
    rows = [
        [
            f"mount until ready, {count} layer{'s' if count > 1 else ''} (ms)",
            *(milliseconds(times[system]) if system in times else _NOTHING for system in systems),
        ]
        for count, times in report.mount_times().items()
    ]
    rows += [[title, *cells] for title, cells in _daemon_rows(daemons, systems)]
    rows += [[title, *cells] for title, cells in _latency_rows(latencies, systems)]
    notes = [f"{system}: failed: {figures.failure}" for system, figures in daemons.items() if figures.failure]
    notes += [f"{COPY_UP_LATENCY}: failed on {it.system}: {it.failure}" for it in report.results.latencies if it.failure]
    return Table("Mounts and daemons", ["", *systems], rows, notes)


_DAEMON_ROWS: dict[str, Callable[[DaemonFigures], float | None]] = {
    "memory of the daemon at start, RSS (MiB)": lambda figures: _mebibytes(figures.rss),
    "memory of the daemon at start, PSS (MiB)": lambda figures: _mebibytes(figures.pss),
    "memory for each known inode (bytes)": lambda figures: figures.bytes_per_inode,
    "CPU time of the idle daemon (ms a second)": lambda figures: _per_second(figures),
}


def _mebibytes(size: int | None) -> float | None:
    return None if size is None else size / (1 << 20)


def _per_second(figures: DaemonFigures) -> float | None:
    if figures.idle_cpu is None or not figures.idle_seconds:
        return None
    return figures.idle_cpu / figures.idle_seconds * 1000


def _daemon_rows(daemons: Mapping[str, DaemonFigures], systems: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    if not daemons:
        return
    for title, value_of in _DAEMON_ROWS.items():
        values = [value_of(daemons[system]) if system in daemons else None for system in systems]
        yield title, [_NOTHING if value is None else "0" if value == 0 else _three_digits(value) for value in values]


_LATENCY_ROWS: dict[str, Callable[[Latency], float]] = {
    "other requests while 1 GiB is copied up, 99th percentile (ms)": lambda latency: latency.p99_seconds,
    "other requests while 1 GiB is copied up, the longest (ms)": lambda latency: latency.longest_seconds,
}


def _latency_rows(latencies: Mapping[str, Latency], systems: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    if not latencies:
        return
    for title, seconds_of in _LATENCY_ROWS.items():
        yield title, [milliseconds(seconds_of(latencies[system])) if system in latencies else _NOTHING for system in systems]
