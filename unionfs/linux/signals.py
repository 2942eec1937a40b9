"""Whether a thread of another process is about to die."""

from __future__ import annotations

import signal
from pathlib import Path


def is_being_killed(thread: int) -> bool:
    """Whether SIGKILL is pending for a thread, given by its id: that is how Linux ends every thread of a process that a signal
    kills, whatever the signal (kernel/signal.c, complete_signal).

    False as well where nothing can be told: no such thread in this process's pid namespace, or no /proc.
    """
    try:
        status = Path(f"/proc/{thread}/status").read_bytes()
    except OSError:
        return False
    for line in status.splitlines():
        if line.startswith(b"SigPnd:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGKILL - 1) & 1)
    return False
