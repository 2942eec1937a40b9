"""What came of loads, as tables of docs/soak.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from tests.load.load import Result
from tests.load.samples import Trend

_NAMES = {
    "rss_mib": "memory (RSS), MiB",
    "pss_mib": "memory (PSS), MiB",
    "open_files": "open files",
    "inodes": "known inodes",
    "p50_us": "request, median, µs",
    "p99_us": "request, 99 %, µs",
}


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """In Markdown."""
    print(f"| {' | '.join(header)} |")
    print("|---" * len(header) + "|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


def print_results(results: dict[str, tuple[dict[str, int], Result]]) -> None:
    """A row for each data path: what was done, how often, and what the clients saw of it."""
    done = list(next(iter(results.values()))[0])
    print_table(
        ("data path", *done, "operations of the clients", "errors", "differences", "longest pause, s"),
        [
            (path, *figures.values(), result.operations, result.errors, result.differences, f"{result.longest_seconds:.2f}")
            for path, (figures, result) in results.items()
        ],
    )


def print_trends(trends: dict[str, list[Trend]]) -> None:
    """How each figure has developed."""
    print_table(
        ("data path", "figure", "second third", "last third", "flat"),
        [
            (path, _NAMES[each.figure], f"{each.second_third:.1f}", f"{each.last_third:.1f}", "yes" if each.is_flat else "no")
            for path, found in trends.items()
            for each in found
        ],
    )


def print_failures(data_path: str, failures: Iterable[str]) -> None:
    """On stderr, a line each."""
    for failure in failures:
        print(f"{data_path}: {failure}", file=sys.stderr)
