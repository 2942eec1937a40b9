"""The matrix of faults; ``python -m tests.faults.matrix`` prints it as the table of docs/faults.md."""

from __future__ import annotations

import argparse
import collections
import errno
import itertools
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults import snapshots
from tests.faults.cells import Outcome, Reference, faults_of, refer, try_fault
from tests.faults.declared import is_declared
from tests.faults.injection import ERRORS, Fault
from tests.faults.operations import CONFIGURATIONS

SNAPSHOTS = "snapshot"

_STRIDE = 19


class Cell(NamedTuple):
    """A fault in an operation, and what came of it."""

    configuration: str
    operation: str
    fault: Fault
    outcome: Outcome

    def problems(self) -> list[str]:
        """What is wrong, in words that tell where."""
        outcome, number, where = self.outcome, self.fault.number, f"{self.configuration}, {self.operation}"
        problems = [problem for problem in outcome.problems if not is_declared(where, self.fault.lasts, problem)]
        if outcome.number not in (0, number):
            problems.append(f"the error was {errno.errorcode[outcome.number]}")
        what = f"{errno.errorcode[number]} at call {self.fault.at}{' and later' if self.fault.lasts else ''}, {outcome.failed}"
        return [f"{where}: {what}: {problem}" for problem in problems]


def all_faults(reference: Reference) -> Iterator[Fault]:
    """Every call with every error, once and from then on."""
    for lasts in (False, True):
        yield from faults_of(reference, lasts=lasts)


def some_faults(reference: Reference) -> Iterator[Fault]:
    """Some of the calls once, others in other operations, with the errors in turn, every other one for good."""
    by_call = itertools.groupby(faults_of(reference, lasts=False), key=lambda fault: fault.at)
    for turn, (_, faults) in enumerate(by_call):
        if (turn + len(reference.calls)) % _STRIDE:
            continue
        possible = list(faults)
        fault = possible[(turn + len(reference.calls)) // _STRIDE % len(possible)]
        yield Fault(fault.number, fault.at, lasts=turn // _STRIDE % 2 == 1)


def run(directory: Path, configuration: str, name: str, *, complete: bool) -> Iterator[Cell]:
    """Try the faults of one operation."""
    options, operations = CONFIGURATIONS[configuration]
    operation = operations[name]
    reference = refer(directory / "reference", options, operation)
    for count, fault in enumerate((all_faults if complete else some_faults)(reference)):
        outcome = try_fault(directory / f"fault{count}", options, operation, fault, reference)
        yield Cell(configuration, name, fault, outcome)


def run_snapshots(directory: Path, *, complete: bool) -> Iterator[Cell]:
    """The same for a snapshot."""
    reference = snapshots.refer(directory / "reference")
    for count, fault in enumerate((all_faults if complete else some_faults)(reference)):
        yield Cell(SNAPSHOTS, "snapshot", fault, snapshots.try_fault(directory / f"fault{count}", fault))


def run_all(directory: Path, *, complete: bool) -> Iterator[Cell]:
    """The matrix, row by row."""
    numbers = itertools.count()
    for configuration, (_, operations) in CONFIGURATIONS.items():
        for name in operations:
            yield from run(directory / str(next(numbers)), configuration, name, complete=complete)
    yield from run_snapshots(directory / SNAPSHOTS, complete=complete)


class _Row(NamedTuple):
    """What came of the faults of one operation."""

    tried: collections.Counter[int]
    refused: int
    absorbed: int
    done: int
    wrong: int


def _row(cells: list[Cell]) -> _Row:
    return _Row(
        collections.Counter(cell.fault.number for cell in cells),
        sum(cell.outcome.number != 0 and not cell.outcome.is_done for cell in cells),
        sum(cell.outcome.number == 0 for cell in cells),
        sum(cell.outcome.number != 0 and cell.outcome.is_done for cell in cells),
        sum(bool(cell.problems()) for cell in cells),
    )


def _print_table(cells: list[Cell]) -> None:
    names = [errno.errorcode[number] for number in ERRORS]
    print(f"| options | operation | {' | '.join(names)} | refused | went on | done all the same | wrong |")
    print("|---|---|" + "---|" * (len(names) + 4))
    for (configuration, operation), group in itertools.groupby(cells, key=lambda cell: (cell.configuration, cell.operation)):
        row = _row(list(group))
        counts = [row.tried[number] for number in ERRORS]
        print(f"| {configuration} | {operation} | {' | '.join(map(str, (*counts, *row[1:])))} |")
    row = _row(cells)
    print(f"| | all | {' | '.join(map(str, (*(row.tried[number] for number in ERRORS), *row[1:])))} |")


def main() -> int:
    """Print the table, and what is wrong on stderr; status 1 if anything is."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some of the faults, as the test suite does")
    quick = parser.parse_args().quick
    logging.disable(logging.CRITICAL)  # of every injected fault that a clean-up met there would be a line
    with tempfile.TemporaryDirectory(prefix="unionfs-faults-") as directory:
        cells = list(run_all(Path(directory), complete=not quick))
    _print_table(cells)
    problems = [problem for cell in cells for problem in cell.problems()]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
