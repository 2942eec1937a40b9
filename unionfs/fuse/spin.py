"""Adaptive busy-waiting for the next request.

A sleeping server is woken by the scheduler, which costs more than serving most requests does.  A client that works through a
tree sends its next request a few microseconds after each reply, so it pays to look again for a moment instead of going to
sleep.  It does not pay while requests come further apart than that moment: then the wait is in vain each time.  So the
*gap* between a reply and the next request is followed as a moving average, and there is busy-waiting only while it is
shorter than the moment.

Nor does it pay where others want the processor, such as two compilers on two of them: what they lose the client loses, who waits
for them.  Whoever busy-waits notices that, as it gets the processor back late, and says so (`Spin.give_way`).
"""

from __future__ import annotations

import os

_WEIGHT_SHIFT = 2  # each gap counts for 1/4 in the average: a burst is known as one after a few requests
_GAP_CEILING = 8
"""A pause counts as this many windows at most, or the average would forget an hour's sleep only after hours of requests."""


class Spin:
    """Whether to busy-wait now.  Times are nanoseconds of one clock (`time.perf_counter_ns`)."""

    __slots__ = ("_ceiling", "_gap", "_idle_since", "window")

    def __init__(self, window_us: int, cpus: int | None = None) -> None:
        """Busy-wait for up to ``window_us`` µs, or never if 0.  On one of ``cpus`` alone (default: as many as we may use) never:
        the client needs it to send the request that is waited for."""
        if cpus is None:
            cpus = len(os.sched_getaffinity(0))
        self.window = window_us * 1000 if cpus > 1 else 0
        self._ceiling = self.window * _GAP_CEILING
        self._gap = self._ceiling
        self._idle_since = 0

    def idle(self, now: int) -> None:
        """There was nothing to read at ``now``, for the first time since a request."""
        self._idle_since = now

    def may_continue(self, now: int) -> bool:
        """Whether to look again rather than sleep."""
        return self._gap < self.window and now - self._idle_since < self.window

    def arrived(self, now: int) -> None:
        """A request came after an `idle`."""
        gap = min(now - self._idle_since, self._ceiling)
        self._gap += (gap - self._gap) >> _WEIGHT_SHIFT

    def give_way(self) -> None:
        """Others need this processor: no busy-waiting until requests have come fast for a while."""
        self._gap = self._ceiling
