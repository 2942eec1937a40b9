"""Running several things at once, each in a process of its own."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Sequence

_PATIENCE = 1_000
"""Seconds; more than any takes at full size."""


def run_at_once(works: Sequence[Callable[[], None]]) -> None:
    """Run them all; AssertionError if one fails.  None begins before all are there: they wait for the end of a pipe."""
    start, hold = os.pipe()
    pids = [_fork(work, start, hold) for work in works]
    os.close(start)
    os.close(hold)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(works)


def _fork(work: Callable[[], None], start: int, hold: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    # Forked, not started anew: 200 interpreters take longer to start than they work.
    status = 1
    try:
        signal.alarm(_PATIENCE)
        os.close(hold)
        os.read(start, 1)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
