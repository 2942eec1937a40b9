"""Very many processes at work in one union."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path

from tests.behaviour.union import Mounted

from . import worker
from .mounted import check, mounting
from .scale import PROCESSES, ROUNDS


def test_many_processes_find_and_leave_what_each_has_done(unmounted: Mounted) -> None:
    worker.fill(unmounted.lowers[0], PROCESSES)
    with mounting(unmounted) as top:
        _run_all(top)
        worker.verify(top, PROCESSES, ROUNDS)
    with mounting(unmounted) as top:
        worker.verify(top, PROCESSES, ROUNDS)
    check(unmounted)


def _run_all(top: Path) -> None:
    """Start all before any of them works: they wait for the end of a pipe."""
    start, hold = os.pipe()
    pids = [_fork(top, number, start, hold) for number in range(PROCESSES)]
    os.close(start)
    os.close(hold)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * PROCESSES


def _fork(top: Path, number: int, start: int, hold: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    # Forked, not started anew: 200 interpreters take longer to start than they work.
    status = 1
    try:
        signal.alarm(100)
        os.close(hold)
        os.read(start, 1)
        worker.work(top, number, ROUNDS)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
