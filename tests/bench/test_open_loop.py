"""Requests at fixed times, on a clock that goes only when something takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from unionfs.bench.open_loop import INTERVAL, Span, percentile, send

TENTH = INTERVAL // 10


@dataclass
class Clock:
    """``late``: how much longer than asked for it sleeps, each time."""

    late: int = 0
    now: int = 0

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9) + self.late

    def requests(self, *durations: int) -> Iterator[Callable[[], object]]:
        """Requests that take so long; all after those a tenth of the interval."""

        def request(duration: int) -> None:
            self.now += duration

        for duration in durations:
            yield lambda duration=duration: request(duration)  # type: ignore[misc]
        while True:
            yield lambda: request(TENTH)

    def send(self, end: int, *durations: int) -> list[Span]:
        return send(self.requests(*durations), lambda: end, lambda: self.now, self.sleep)


def lasting(spans: list[Span]) -> list[int]:
    return [span.until - span.since for span in spans]


def test_quick_requests_are_sent_at_their_times() -> None:
    spans = Clock().send(4 * INTERVAL)
    assert spans == [Span(number * INTERVAL, number * INTERVAL + TENTH) for number in range(4)]


def test_requests_that_were_due_during_a_long_one_have_waited_as_well() -> None:
    spans = Clock().send(6 * INTERVAL, 4 * INTERVAL)
    assert lasting(spans) == [
        4 * INTERVAL,
        3 * INTERVAL + TENTH,
        2 * INTERVAL + 2 * TENTH,
        INTERVAL + 3 * TENTH,
        4 * TENTH,
        TENTH,
    ]


def test_request_that_lasts_to_the_end_is_followed_by_those_that_were_due() -> None:
    clock = Clock()
    ended = 4 * INTERVAL
    spans = send(clock.requests(ended), lambda: ended if clock.now >= ended else None, lambda: clock.now, clock.sleep)
    assert len(spans) == 4
    assert [span.since for span in spans] == [0, INTERVAL, 2 * INTERVAL, 3 * INTERVAL]


def test_sender_that_wakes_up_late_adds_nothing() -> None:
    spans = Clock(late=3 * INTERVAL).send(8 * INTERVAL)
    assert lasting(spans) == [TENTH] * 3


@pytest.mark.parametrize(
    ("other", "overlap"),
    [
        (Span(0, 9), False),
        (Span(0, 10), False),
        (Span(0, 11), True),
        (Span(12, 13), True),
        (Span(19, 30), True),
        (Span(20, 30), False),
    ],
)
def test_spans_overlap_that_share_a_moment(other: Span, overlap: bool) -> None:
    assert Span(10, 20).overlaps(other) is other.overlaps(Span(10, 20)) is overlap


def test_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(200, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [100, 198, 200]
    assert [percentile([7.0], percent) for percent in (50, 99, 100)] == [7, 7, 7]
