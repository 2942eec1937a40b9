"""What a mount that outlives its daemon costs: the same requests, in turns, with a journal and without.

The one mount changes over every few milliseconds (`tests.takeover.switched_journal`), and the order changes each time, so that
whatever else the machine does strikes both.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.load.report import print_table
from tests.load.world import DATA_PATHS
from tests.takeover import switched_journal
from tests.takeover.cost_work import BATCH, PROGRAMS, REQUESTS, Operation, Work
from tests.takeover.switched_journal import Journal, switch


class Measured(NamedTuple):
    """Of one operation: seconds for one step, and the ratio with where it lies by 95 %.  All are means without the
    outermost 5 % at both ends."""

    name: str
    with_journal: float
    without: float
    ratio: float
    low: float
    high: float


def measure(work: Work, data_path: str, rounds: int) -> list[Measured]:
    """Do it so many times with a journal and without."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in work.operations]
    with _mounted(work, data_path, rounds) as merged:
        for number in range(rounds):
            for journal in Journal:
                (merged / f"made-{number}-{journal.name}").mkdir()
            for position, operation in enumerate(work.operations):
                order = list(Journal) if (number + position) % 2 else list(reversed(Journal))
                took = {journal: _time(operation, merged, number, journal) / work.steps for journal in order}
                seconds[position].append((took[Journal.KEPT], took[Journal.NONE]))
    return [_evaluate(operation.name, pairs) for operation, pairs in zip(work.operations, seconds, strict=True)]


def _time(operation: Operation, merged: Path, number: int, journal: Journal) -> float:
    switch(merged, journal)
    lower, upper = merged / f"{number}-{journal.name}", merged / f"made-{number}-{journal.name}"
    began = time.perf_counter()
    operation.run(lower, upper)
    return time.perf_counter() - began


def _evaluate(name: str, pairs: Sequence[tuple[float, float]]) -> Measured:
    # Not medians: what the journal does once in a while, as making itself short, is to count.
    ratios = _trimmed([kept / bare for kept, bare in pairs])
    kept, bare = (statistics.mean(_trimmed(column)) for column in zip(*pairs, strict=True))
    ratio = statistics.mean(ratios)
    half = 1.96 * statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    return Measured(name, kept, bare, ratio, ratio - half, ratio + half)


def _trimmed(values: Iterable[float]) -> list[float]:
    ordered = sorted(values)
    cut = len(ordered) // 20
    return ordered[cut : len(ordered) - cut]


@contextmanager
def _mounted(work: Work, data_path: str, rounds: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="unionfs-cost-") as name:
        top = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80%,nr_inodes=0", "unionfs-cost", top], check=True)
        try:
            for number in range(rounds):
                for journal in Journal:
                    work.make_lower(top / "lower" / f"{number}-{journal.name}")
            for directory in ("upper", "merged"):
                (top / directory).mkdir()
            merged = top / "merged"
            _unionfs(top, "mount", "--data-path", data_path, "-l", top / "lower", "-u", top / "upper", merged)
            try:
                yield merged
            finally:
                _unionfs(top, "umount", merged)
        finally:
            subprocess.run(["umount", top], check=True)


def _unionfs(top: Path, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", switched_journal.__name__, *arguments]
    environment = os.environ | {"UNIONFS_RUNTIME_DIR": str(top / "run"), "UNIONFS_LOG_DIR": str(top / "log")}
    subprocess.run(command, check=True, env=environment, timeout=60)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/takeover-cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help=f"turns of {BATCH} requests of each kind (300)")
    parser.add_argument("--program-rounds", type=int, default=60, help="times that each program runs (60)")
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="show operations whose names it matches; those after them are not run"
    )
    parser.add_argument("--data-path", choices=(*DATA_PATHS, "both"), default="both")
    given = parser.parse_args(arguments)
    works = [(_until(REQUESTS, given.only), given.rounds), (_until(PROGRAMS, given.only), given.program_rounds)]
    if not any(work.operations for work, _ in works):
        parser.error(f"no operation is called like {given.only!r}")
    for path in DATA_PATHS if given.data_path == "both" else (given.data_path,):
        for work, rounds in works:
            if work.operations and rounds:
                measured = [each for each in measure(work, path, rounds) if re.search(given.only, each.name)]
                print(f"\n{path}\n")
                _print(work, measured)
    return 0


def _until(work: Work, pattern: str) -> Work:
    """``work`` as far as it is needed for the operations whose names match."""
    chosen = [position for position, operation in enumerate(work.operations) if re.search(pattern, operation.name)]
    return work._replace(operations=work.operations[: max(chosen, default=-1) + 1])


def _print(work: Work, measured: Sequence[Measured]) -> None:
    unit, scale = work.unit
    print_table(
        (work.name, f"with, {unit}", f"without, {unit}", "ratio", "by 95 %"),
        [
            (
                each.name,
                f"{each.with_journal * scale:.1f}",
                f"{each.without * scale:.1f}",
                f"{each.ratio:.3f}",
                f"{each.low:.3f}-{each.high:.3f}",
            )
            for each in measured
        ],
    )
    print(f"\ngeometric mean of the ratios: {statistics.geometric_mean(each.ratio for each in measured):.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
