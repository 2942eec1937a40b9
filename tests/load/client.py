"""One of the clients of a load: ``python -m tests.load.client UNION PLAIN SEED``.

It does one random operation after the other in the directory UNION of a union, and the same in PLAIN, a directory of the same
content; whatever the operation gives (values, errno, data, attributes, listings) must be the same.  It ends after ``--steps``
steps, at the end of its standard input, or at the first difference.  For each operation it writes a byte to the descriptor
``--progress``.

The seed decides all that it does.  It prints a `Report` as JSON, and its exit status is 0 if that tells of no difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.differential.player import Operation
from tests.load.files_work import FilesWork
from tests.load.listings_work import ListingsWork
from tests.load.names_work import NamesWork, UnreadableError
from tests.load.places_work import PlacesWork
from tests.load.programs_work import ProgramsWork
from tests.load.readers_work import ReadersWork
from tests.load.work import Work, weighted

_SHOWN = 1500
"""Characters of a value in a report."""


@dataclass
class Report:
    """What a client has done."""

    seed: int
    steps: int = 0
    operations: int = 0
    """In the union; each is one or a few system calls."""
    longest_ns: int = 0
    """How long the slowest of them took."""
    slowest: str = ""
    failure: str = ""
    """The first operation that gave something else in the union, and what; empty if there was none."""
    is_error: bool = False
    """Whether the failure is an error that the plain directory did not give."""


class Pair(NamedTuple):
    """Two works of a kind."""

    union: Work
    plain: Work


class Client:
    """Does the steps.  ``progress``: where a byte is written for each operation; -1: nowhere.  ``trace``: all operations, and
    what they gave in the plain directory, go to stderr."""

    def __init__(self, union: Path, plain: Path, seed: int, may_lag: bool, progress: int = -1, trace: bool = False) -> None:
        self.report = Report(seed)
        self._dice = random.Random(seed)  # noqa: S311 - a sequence to repeat, not a secret
        self._progress = progress
        self._trace = trace
        self._pairs: list[tuple[int, Pair]] = [
            (45, Pair(NamesWork(union), NamesWork(plain))),
            (35, Pair(FilesWork(union), FilesWork(plain))),
            (8, Pair(ListingsWork(union), ListingsWork(plain))),
            (6, Pair(ReadersWork(union, may_lag), ReadersWork(plain, may_lag=False))),
            (3, Pair(PlacesWork(union), PlacesWork(plain))),
            (3, Pair(ProgramsWork(union), ProgramsWork(plain))),
        ]

    def step(self) -> bool:
        """Some operations; whether they gave the same in both."""
        pair = weighted(self._dice, self._pairs)
        self.report.steps += 1
        return all(self._play(operation, pair) for operation in pair.plain.draw(self._dice))

    def _play(self, operation: Operation, pair: Pair) -> bool:
        begun = time.perf_counter_ns()
        try:
            found = operation.play(pair.union)
        except UnreadableError as error:
            found = ("errno", str(error))
        self._count(operation, pair, time.perf_counter_ns() - begun)
        expected = operation.play(pair.plain)
        if self._trace:
            print(self.report.steps, type(pair.union).__name__, _shown(operation), _shown(expected), file=sys.stderr)
        if found == expected:
            return True
        found, expected = _what_differs(found, expected)
        kind, report = type(pair.union).__name__, self.report
        report.is_error = _is_error(found) and not _is_error(expected)
        report.failure = (
            f"seed {report.seed}, step {report.steps}, {kind} {_shown(operation)}: "
            f"{_shown(found)} in the union, {_shown(expected)} in the plain directory"
        )
        return False

    def _count(self, operation: Operation, pair: Pair, nanoseconds: int) -> None:
        self.report.operations += 1
        if nanoseconds > self.report.longest_ns:
            self.report.longest_ns = nanoseconds
            self.report.slowest = f"{type(pair.union).__name__} {operation.name}"
        if self._progress >= 0:
            os.write(self._progress, b".")

    def end(self) -> None:
        """Close all that is open."""
        for _, pair in self._pairs:
            pair.union.end()
            pair.plain.end()


def _is_error(outcome: object) -> bool:
    return isinstance(outcome, tuple) and len(outcome) == 2 and outcome[0] == "errno"


def _what_differs(found: object, expected: object) -> tuple[object, object]:
    """The same, but of two whole trees the names that are not the same."""
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return found, expected
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    return {name: found.get(name) for name in names}, {name: expected.get(name) for name in names}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _until_told(steps: int) -> Iterator[None]:
    """As often as a step is to be done."""
    count = 0
    while not steps or count < steps:
        if select.select([sys.stdin], [], [], 0)[0] and not os.read(sys.stdin.fileno(), 1):
            return
        yield
        count += 1


def main() -> int:
    """Work, and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.load.client", description=__doc__)
    parser.add_argument("union", type=Path)
    parser.add_argument("plain", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--steps", type=int, default=0, help="0: until the end of the standard input")
    parser.add_argument("--progress", type=int, default=-1)
    parser.add_argument("--may-lag", action="store_true", help="what was opened for reading may keep lower data (passthrough)")
    parser.add_argument("--trace", action="store_true", help="print all operations to stderr")
    given: Any = parser.parse_args()
    client = Client(given.union, given.plain, given.seed, given.may_lag, given.progress, given.trace)
    try:
        for _ in _until_told(given.steps):
            if not client.step():
                break
    finally:
        client.end()
        print(json.dumps(asdict(client.report)))
    return 1 if client.report.failure else 0


if __name__ == "__main__":
    sys.exit(main())
