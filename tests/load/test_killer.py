"""The killer kills who serves the mount, and nobody else."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.load.killer import Kills
from tests.load.progress import Progress
from tests.load.served import NoSupervisorError, Served

_WORKER = [sys.executable, "-c", "import signal; signal.pause()"]


class Supervised(Served):
    """A mount whose status tells of a process of ours as its worker, and of another one when that has ended."""

    def __init__(self) -> None:
        self._merged = Path("merged")
        self.workers: list[subprocess.Popen[bytes]] = []

    def status(self) -> dict[str, Any]:
        if not self.workers or self.workers[-1].poll() is not None:
            self.workers.append(subprocess.Popen(_WORKER))
        return {"pid": 1, "worker": {"pid": self.workers[-1].pid, "restarts": len(self.workers) - 1}}

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()


@contextmanager
def supervised() -> Iterator[Supervised]:
    served = Supervised()
    try:
        yield served
    finally:
        served.end()


class Busy(Progress):
    """Clients that have always done enough meanwhile."""

    def __init__(self) -> None:
        """Without a pipe and a thread."""

    def wait_for(self, operations: int) -> bool:
        return operations > 0


def test_the_worker_is_killed_and_the_next_one_is_waited_for() -> None:
    with supervised() as served:
        first = served.kill_worker()
        second = served.next_worker(first)
        assert served.workers[0].wait() == -signal.SIGKILL
        assert (first, second) == (served.workers[0].pid, served.workers[1].pid)
        assert served.processes() == [1, second]


def test_a_mount_without_a_supervisor_has_no_worker_to_be_killed() -> None:
    class Alone(Supervised):
        def status(self) -> dict[str, Any]:
            return {"pid": 1}

    assert Alone().processes() == [1]
    with pytest.raises(NoSupervisorError, match="merged: served without a supervisor"):
        Alone().kill_worker()


def test_there_are_as_many_kills_as_are_wanted_some_of_a_worker_in_recovery() -> None:
    with supervised() as served:
        killer = Kills(served, random.Random(3), most=1, wanted=8)  # noqa: S311 - a sequence to repeat, not a secret
        killer.run(Busy())
        killed = [worker for worker in served.workers if worker.poll() == -signal.SIGKILL]
        assert len(killed) == len(served.workers) - 1 == killer.count
    assert killer.is_enough
    assert 8 <= killer.count <= 9
    assert 0 < killer.figures()["of them in recovery"] < killer.count
