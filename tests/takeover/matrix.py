"""The matrix of deaths; ``python -m tests.takeover.matrix`` prints it as a table."""

from __future__ import annotations

import argparse
import itertools
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.takeover.more_operations import EVERYTHING, PASSTHROUGH
from tests.takeover.trials import Death, Run, differences, run
from tests.takeover.worker import Shortening

_ROW_STRIDE = 13
_STEP_STRIDE = 5
_STEPS_OF_A_SUCCESSOR = 40
"""About so many steps a worker takes before it has answered what the one before it had begun."""


class Declared(NamedTuple):
    """``operation`` (with the options before it) and ``problem`` are patterns."""

    operation: str
    problem: str
    reason: str


DECLARED = (
    Declared(
        ".*, rename over an emptied directory|whiteouts beside, (rmdir of a|use of a removed) merged directory",
        r"answer \d+ is \('(GETATTR|READDIR)', ''",
        "the directory was on its way out, and what was left of it, without its lower part, has another inode number",
    ),
    Declared(
        ".*, writes from the page cache",
        r"(died|then) before set_times.*: answer \d+ is \('GETATTR', '', .*, -1, 0\)",
        "the write moved the mtime, and setting that back, to what it was before the first attempt, is what was not done",
    ),
    Declared(
        ".*, link of an unnamed file over a whiteout",
        r"(died|then) before rename.*: answer 0 is \('LINK', 'ENOENT'",
        "it first gets a name in the work directory; what has lost its last name gets no other from the kernel",
    ),
)
"""What a death may change, each with the reason why it cannot be otherwise."""


Choose = Callable[[int, "Way", int], list[Death]]


class Cell(NamedTuple):
    """An operation during which workers died, and what came of it."""

    options: str
    operation: str
    run: Run
    problems: list[str]


class Way(NamedTuple):
    """How workers die in an operation.

    Attributes:
        looks: whether the kernel knows everything before.
        shortening: of the journal.
        is_double: whether the worker that takes over dies as well.
    """

    looks: bool = True
    shortening: Shortening = "seldom"
    is_double: bool = False


def all_deaths(steps: int, way: Way, turn: int) -> list[Death]:
    """Those of an operation of so many steps; ``turn``: others for other operations."""
    # With two each pair would be too many: the later of them takes its turns.
    return [Death((at, (7 * at + turn) % _STEPS_OF_A_SUCCESSOR) if way.is_double else (at,)) for at in range(steps)]


def some_deaths(steps: int, way: Way, turn: int) -> list[Death]:
    """Two of them."""
    found = all_deaths(steps, way, turn)
    first = _STEP_STRIDE * turn
    return [found[first % steps], found[(first + steps // 2) % steps]]


def run_operation(top: Path, options: str, name: str, way: Way, turn: int, choose: Choose = all_deaths) -> Iterator[Cell]:
    """Try deaths during one operation."""
    settings, operations = EVERYTHING[options]
    operation = operations[name]
    opens = options == PASSTHROUGH
    reference = run(top / "reference", settings, operation, looks=way.looks, passthrough=opens)
    where = f"{options}, {name}"
    undisturbed = [f"undisturbed: {problem}" for problem in (*reference.problems, *reference.log)]
    for death in choose(len(reference.steps), way, turn):
        found = run(top / "death", settings, operation, death, looks=way.looks, shortening=way.shortening, passthrough=opens)
        problems = [f"{where}: {problem}" for problem in (*undisturbed, *differences(found, reference))]
        yield Cell(options, name, found, [problem for problem in problems if not _is_declared(where, problem)])


def _is_declared(where: str, problem: str) -> bool:
    return any(re.fullmatch(known.operation, where) and re.search(known.problem, problem) for known in DECLARED)


_ROWS = [(options, name) for options, (_, operations) in EVERYTHING.items() for name in operations]


def run_all(top: Path, way: Way, only: str = "") -> Iterator[Cell]:
    """The matrix, row by row; ``only``: a pattern that options and operation must match."""
    for turn, (options, name) in enumerate(_ROWS):
        if re.search(only, f"{options}, {name}"):
            yield from run_operation(top, options, name, way, turn)


def run_some(top: Path) -> Iterator[Cell]:
    """Some deaths of some rows, each row in another way than those around it."""
    ways = itertools.cycle((Way(), Way(is_double=True), Way(shortening="anew"), Way(shortening="by pieces"), Way(looks=False)))
    for turn, (options, name) in list(enumerate(_ROWS))[::_ROW_STRIDE]:
        yield from run_operation(top, options, name, next(ways), turn, some_deaths)


def _print_row(options: str, operation: str, cells: list[Cell]) -> None:
    answered = sum(cell.run.answered for cell in cells)
    again = sum(cell.run.resent for cell in cells) - answered
    wrong = sum(bool(cell.problems) for cell in cells)
    print(f"| {options} | {operation} | {len(cells)} | {answered} | {again} | {wrong} |", flush=True)


def main() -> int:
    """Print the table, and what is wrong on stderr; status 1 if anything is."""
    parser = argparse.ArgumentParser(prog="scripts/takeover", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some of the deaths in all these ways, as the test suite does")
    parser.add_argument("--twice", action="store_true", help="the worker that takes over dies as well")
    parser.add_argument("--short", choices=("anew", "by pieces"), default="seldom", help="the journal is shortened all the time")
    parser.add_argument("--unknown", action="store_true", help="the kernel knows only what the operation is about")
    parser.add_argument("--only", metavar="REGEX", default="", help="of the rows that match: OPTIONS, OPERATION")
    chosen = parser.parse_args()
    way = Way(not chosen.unknown, chosen.short, chosen.twice)
    logging.disable(logging.CRITICAL)  # what the workers say is looked at by itself
    cells: list[Cell] = []
    print("| options | operation | points | answered from the journal | carried out again | wrong |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="unionfs-takeover-") as directory:
        found = run_some(Path(directory)) if chosen.quick else run_all(Path(directory), way, chosen.only)
        for row, group in itertools.groupby(found, key=lambda cell: (cell.options, cell.operation)):
            row_cells = list(group)
            _print_row(*row, row_cells)
            cells += row_cells
            for problem in (problem for cell in row_cells for problem in cell.problems):
                print(problem, file=sys.stderr, flush=True)
    _print_row("", "all", cells)
    return 1 if any(cell.problems for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(main())
