"""Very many processes at work in one union."""

from __future__ import annotations

from functools import partial

from tests.behaviour.union import Mounted

from . import worker
from .mounted import check, mounting
from .processes import run_at_once
from .scale import PROCESSES, ROUNDS


def test_many_processes_find_and_leave_what_each_has_done(unmounted: Mounted) -> None:
    worker.fill(unmounted.lowers[0], PROCESSES)
    with mounting(unmounted) as top:
        run_at_once([partial(worker.work, top, number, ROUNDS) for number in range(PROCESSES)])
        worker.verify(top, PROCESSES, ROUNDS)
    with mounting(unmounted) as top:
        worker.verify(top, PROCESSES, ROUNDS)
    check(unmounted)
