"""A process that does not outlive its parent (prctl(2), PR_SET_PDEATHSIG)."""

from __future__ import annotations

import os
import signal
from ctypes import c_int, c_ulong

from unionfs.linux.libc import last_error, libc

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """From now on this process is killed when the one that made it, ``parent``, ends; at once if it has ended already.

    Raises:
        OSError: as prctl(2).
    """
    if libc.prctl(c_int(_PR_SET_PDEATHSIG), c_ulong(signal.SIGKILL), c_ulong(0), c_ulong(0), c_ulong(0)):
        raise last_error()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
