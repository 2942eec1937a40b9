"""How many requests there were of each kind, and how long they took: a histogram per kind, at the cost of two additions.

A time runs from when a request has been read until its reply is written, with whatever it waited for in between.  The buckets are
powers of two: what took less than 2 ** n nanoseconds, and not less than half of that, is in bucket n.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypedDict

from unionfs.fuse.protocol import Opcode

_BUCKETS = 64  # int.bit_length() of a time: 2 ** 63 ns are 292 years
_COUNT, _ERRORS, _TOTAL = _BUCKETS, _BUCKETS + 1, _BUCKETS + 2

Cells = list[int]
"""What is known of one kind: the buckets, then how many were begun, how many got an errno, and their time in all."""


class Times(TypedDict):
    """What is known of one kind of request, JSON-able."""

    count: int
    """How many were begun."""
    errors: int
    """How many of those were answered with an errno."""
    total_ns: int
    buckets: list[tuple[int, int]]
    """(n, how many took less than 2 ** n nanoseconds and not less than half of that), only the n that have any, ascending."""


class RequestTimes:
    """The figures of one session, by opcode."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: defaultdict[int, Cells] = defaultdict(_no_requests)

    def begin(self, opcode: int) -> Cells:
        """A request was read.  The result is for `end`."""
        cells = self._cells[opcode]
        cells[_COUNT] += 1
        return cells

    def fail(self, opcode: int) -> None:
        """It gets an errno."""
        self._cells[opcode][_ERRORS] += 1

    def counts(self) -> dict[str, int]:
        """How many requests were begun, by name."""
        return {opcode_name(opcode): cells[_COUNT] for opcode, cells in self._cells.items()}

    def errors(self) -> int:
        """How many requests got an errno."""
        return sum(cells[_ERRORS] for cells in self._cells.values())

    def describe(self) -> dict[str, Times]:
        """All that is known, by name."""
        return {opcode_name(opcode): _describe(cells) for opcode, cells in self._cells.items()}


def end(cells: Cells, elapsed_ns: int) -> None:
    """The request that `RequestTimes.begin` returned ``cells`` for is over."""
    cells[elapsed_ns.bit_length()] += 1
    cells[_TOTAL] += elapsed_ns


def quantile(buckets: Iterable[tuple[int, int]], q: float) -> float:
    """The time in nanoseconds that a share ``q`` (0 to 1) of the requests stayed below; 0 if there were none.

    ``buckets`` as in `Times`.  Within a bucket the times count as evenly spread, so the result is right to a factor of two.
    """
    buckets = sorted(buckets)
    wanted = q * sum(count for _, count in buckets)
    for exponent, count in buckets:
        if wanted <= count:
            return float((1 << exponent) * (1 + wanted / count) / 2)
        wanted -= count
    return 0.0


def opcode_name(opcode: int) -> str:
    """What a kind of request is called: ``lookup``, ``readdirplus``; ``opcode_4000`` for one that is not known."""
    try:
        return Opcode(opcode).name.lower()
    except ValueError:
        return f"opcode_{opcode}"


def _no_requests() -> Cells:
    return [0] * (_TOTAL + 1)


def _describe(cells: Cells) -> Times:
    buckets = [(exponent, count) for exponent, count in enumerate(cells[:_BUCKETS]) if count]
    return Times(count=cells[_COUNT], errors=cells[_ERRORS], total_ns=cells[_TOTAL], buckets=buckets)
