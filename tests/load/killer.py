"""Kills the worker that serves a union, at random moments."""

from __future__ import annotations

import random
import time

from tests.load.progress import Progress
from tests.load.served import Served

_DELAY = 0.002
"""Seconds at most between the operation that was waited for and the kill."""
_RECOVERY_DELAY = 0.2
"""Seconds at most between the beginning of a worker and a kill that shall meet it in its recovery."""
_IN_RECOVERY = 0.2
"""Which share of kills is followed by one of the next worker, before that is at work."""


class Kills:
    """A `tests.load.disturbances.Disturbance`: kills the worker after 1 to ``most`` operations of the clients and some
    microseconds, and waits for the next one."""

    name = "kills"

    def __init__(self, served: Served, dice: random.Random, most: int, wanted: int | None = None) -> None:
        """``wanted``: how many are enough; None: as many as come."""
        self._served, self._dice, self._most = served, dice, most
        self._wanted = wanted
        self.count = 0
        self._in_recovery = 0

    @property
    def is_enough(self) -> bool:
        """Whether all that were wanted are done; the last worker may be yet to come."""
        return self._wanted is not None and self.count >= self._wanted

    def run(self, progress: Progress) -> None:
        while not self.is_enough and progress.wait_for(self._dice.randint(1, self._most)):
            worker = self._kill_after(_DELAY)
            # Never twice in a row: a worker that never gets to its work is given up, as it should be.
            if self._dice.random() < _IN_RECOVERY:
                self._served.next_worker(worker)
                worker = self._kill_after(_RECOVERY_DELAY)
                self._in_recovery += 1
            self._served.next_worker(worker)

    def figures(self) -> dict[str, int]:
        return {"kills": self.count, "of them in recovery": self._in_recovery}

    def _kill_after(self, at_most: float) -> int:
        time.sleep(self._dice.uniform(0, at_most))  # nothing is waited for: the moment shall be a random one
        worker = self._served.kill_worker()
        self.count += 1
        return worker
