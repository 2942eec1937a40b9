"""The process that holds a mount while others serve it: when a worker dies, it starts the next.

Supervisor and worker have one table of open files (`unionfs.linux.fork`), so the connection to the kernel, the locks, the control
socket, the journal and whatever files the union must not lose outlive every worker.  The supervisor itself does next to nothing:
it waits.  It handles no request, opens no layer once the mount is there, and has no thread, for it must be able to fork.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NoReturn

from unionfs.fuse.mounting import FUSE_DEVICE
from unionfs.linux.ended_process import only_writes_to, status_of_ended
from unionfs.linux.fork import fork_sharing_files
from unionfs.linux.parent_death import end_with_parent
from unionfs.mounter.process_setup import stop_signals

_log = logging.getLogger("unionfs.mounter")

STOP_SIGNAL = signal.SIGUSR1
"""By which a worker is told to stop.  Not by those that the supervisor gets: a terminal and systemd send them to all processes of
a mount, and a second one means something else."""

_AT_ONCE = 2
_MOST_FAILURES = 10
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
"""Seconds.  After `_AT_ONCE` workers in a row that got nowhere the next one waits; twice as long after each further one."""

_LOOK_AGAIN = 2.0
"""Seconds.  Of a worker that is dead but for a thread which waits for requests to be answered no signal tells."""

_MANY = 100
_SHORT_TIME = 10.0
_BREATHER = 1.0
"""Seconds.  After `_MANY` workers in so short a time each waits that long, however far they got."""


class Status(Enum):
    """How a worker ends by itself: the exit status of the process."""

    UNMOUNTED = 0
    ABORTED = 76  # somebody has ended the connection: the mount is there, and nobody can serve it any more
    RESTART = 75  # by the next one, of the code that is installed now
    FAILED = 70  # by an error that the next one would meet as well
    CRASHED = 71  # by an exception that nobody expected


class Ended(Enum):
    """How serving ended."""

    UNMOUNTED = "unmounted"
    STOPPED = "stopped"  # and the mount is still there
    RESTART = "restart"
    FAILED = "failed"


class Supervisor:
    """Runs one worker after the other."""

    def __init__(self, made_progress: Callable[[], bool], can_take_over: bool) -> None:
        """``made_progress``: whether the worker that ended last had got so far as to serve new requests; asking resets it.
        ``can_take_over``: whether another worker can go on with what one has left undone."""
        self._made_progress = made_progress
        self._can_take_over = can_take_over
        self.restarts = 0
        """How many workers were replaced."""
        self.last_end: str | None = None
        """What became of the last one, in words; None while there was only one."""
        self.stopped_by: signal.Signals | None = None
        """The signal that the mount was told to end by."""
        self._failures = 0
        self._ends: deque[float] = deque([-_SHORT_TIME] * _MANY, maxlen=_MANY)
        # Blocked in the worker too, when it begins: it may be told to stop before it has got ready for that.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*stop_signals(), signal.SIGCHLD, STOP_SIGNAL))

    def run(
        self,
        worker: Callable[[], Status],
        successor: Callable[[], Status],
        started: Callable[[int], None] = lambda _pid: None,
    ) -> Ended:
        """Run ``worker`` in a process of its own, and when it dies ``successor`` in another, until one ends by itself.
        ``started`` gets the process id of the first one."""
        pid = self._start(worker)
        started(pid)
        while True:
            ended = self._judge(self._wait(pid))
            if ended is not None:
                return ended
            if not self._pause():
                return Ended.STOPPED
            pid = self._start(successor)
            if self.stopped_by is not None:
                # The one before may have died before it could do as it was told.
                os.kill(pid, STOP_SIGNAL)

    def _start(self, worker: Callable[[], Status]) -> int:
        parent = os.getpid()
        pid = fork_sharing_files()
        if pid == 0:
            _become_worker(worker, parent)
        return pid

    def _wait(self, pid: int) -> int:
        """Until process ``pid`` has ended; its wait status.  What tells us to stop is passed on to it."""
        while True:
            ended = -1
            while ended:
                # Any: a thread of one before may have ended by now.
                ended, status = os.waitpid(-1, os.WNOHANG)
                if ended == pid:
                    return status
            dead = status_of_ended(pid)
            if dead is not None and only_writes_to(FUSE_DEVICE, pid):
                return dead
            told = signal.sigtimedwait((*stop_signals(), signal.SIGCHLD), _LOOK_AGAIN)
            if told is not None and told.si_signo != signal.SIGCHLD:
                self.stopped_by = self.stopped_by or signal.Signals(told.si_signo)
                os.kill(pid, STOP_SIGNAL)

    def _judge(self, status: int) -> Ended | None:
        """What follows from how a worker ended; None: the next one is to go on."""
        code = os.waitstatus_to_exitcode(status)
        if code == Status.UNMOUNTED.value:
            return Ended.UNMOUNTED
        if code == Status.ABORTED.value:
            return Ended.STOPPED
        if code == Status.FAILED.value:
            return Ended.FAILED
        self.restarts += 1
        if code == Status.RESTART.value:
            self.last_end = "restarted"
            return Ended.RESTART
        self.last_end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        self._ends.append(time.monotonic())
        self._failures = 0 if self._made_progress() else self._failures + 1
        if not self._can_take_over:
            _log.error("the worker was %s, and this kernel cannot send its requests again (Linux 6.9 can)", self.last_end)
            return Ended.FAILED
        if self._failures == _MOST_FAILURES:
            _log.error("%d workers in a row got nowhere; the last one was %s", self._failures, self.last_end)
            return Ended.FAILED
        _log.warning("the worker was %s; another one goes on", self.last_end)
        return None

    def _pause(self) -> bool:
        """Wait before the next worker starts, if the last ones got nowhere; false if we are told to stop."""
        if self.stopped_by is not None and self._failures:
            return False
        delay = 0.0
        if self._failures > _AT_ONCE:
            delay = min(_FIRST_DELAY * 2 ** (self._failures - _AT_ONCE - 1), _LONGEST_DELAY)
        elif time.monotonic() - self._ends[0] < _SHORT_TIME:
            delay = _BREATHER
        told = signal.sigtimedwait(stop_signals(), delay)
        if told is None:
            return True
        self.stopped_by = signal.Signals(told.si_signo)
        return False


def _become_worker(worker: Callable[[], Status], parent: int) -> NoReturn:
    """The worker's whole life: below are the frames of the supervisor, which are not ours to run."""
    status = Status.CRASHED
    try:
        end_with_parent(parent)
        for number in stop_signals():
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        status = worker()
    except BaseException:
        _log.exception("the worker ends on an internal error")
    finally:
        # The log is the supervisor's as well: it is not closed here, and each line has been written.
        os._exit(status.value)
