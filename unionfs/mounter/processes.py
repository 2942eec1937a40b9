"""Which process is which: a process id alone is used again for another one, with its start time it is not."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from unionfs.linux.process_stat import stat_fields

_LOOK_AGAIN = 0.1
"""Seconds."""

_ENDED_STATES = (b"Z", b"X")  # proc_pid_stat(5): zombie, dead


def start_time(pid: int) -> int | None:
    """When process ``pid`` began, in clock ticks since boot; None if there is none, or one that ended and that nobody has waited
    for."""
    try:
        fields = stat_fields(Path(f"/proc/{pid}"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in _ENDED_STATES else int(fields[19])


def is_running(pid: int, started: int) -> bool:
    """Whether the process that had ``pid`` and began at ``started`` still runs."""
    return start_time(pid) == started


def wait_for_end(pid: int, started: int, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for that process to end; whether it has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout
        # Checked after pidfd_open: from here on the descriptor cannot come to mean another process.
        while is_running(pid, started):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # Looked at again and again: the descriptor does not tell of a process that is over but for a thread which the kernel
            # cannot end, as one that waits for a FUSE daemon that does not answer.
            if poll.poll(min(left, _LOOK_AGAIN) * 1000):
                return True
        return True
    finally:
        os.close(pidfd)
