"""Requests sent at fixed times, whatever became of those before ("open loop").

Who sends the next one when the last was answered asks least of a union when it is slowest ("coordinated omission"): a daemon that
answers nobody for half a second would be one slow request among thousands.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

INTERVAL = 1_000_000
"""Nanoseconds from one request to the next."""


class Span(NamedTuple):
    """From when until when something went on, in nanoseconds of `time.perf_counter_ns`, which is the same in all processes."""

    since: int
    until: int

    def seconds(self) -> float:
        """How long."""
        return (self.until - self.since) / 1e9

    def overlaps(self, other: Span) -> bool:
        """Whether both went on at some moment."""
        return self.since < other.until and other.since < self.until


def send(
    requests: Iterator[Callable[[], object]],
    end: Callable[[], int | None],
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], object] = time.sleep,
) -> list[Span]:
    """Send one of ``requests`` each `INTERVAL` for as long as one is due before ``end``, which is None while nobody knows it.

    A request lasts from the moment when it is due.  Those that become due while another one is waited for follow it at once.
    """
    spans = []
    due = clock()
    while (last := end()) is None or due < last:
        if (early := due - clock()) > 0:
            sleep(early / 1e9)
            # Waking up late is not the union's fault.
            due = max(due, clock())
        next(requests)()
        spans.append(Span(due, clock()))
        due += INTERVAL
    return spans


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` (at least one) that ``percent`` of them do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
