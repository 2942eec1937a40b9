"""Who is left of a container: its processes come to the monitor when their parents end (prctl(2), PR_SET_CHILD_SUBREAPER)."""

from __future__ import annotations

import os
import signal
from ctypes import c_int, c_ulong
from pathlib import Path

from unionfs.linux.libc import last_error, libc

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """From now on orphans among the descendants of this process are its children."""
    if libc.prctl(c_int(_PR_SET_CHILD_SUBREAPER), c_ulong(1), c_ulong(0), c_ulong(0), c_ulong(0)):
        raise last_error()


def exit_code_of(wait_status: int) -> int:
    """The exit status that a shell shows for what waitpid(2) tells: 128 and the number of the signal that ended it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code


def end_children() -> None:
    """Kill what is left below this process, and wait for it.

    Children of killed ones come to us, so that the loop ends with nobody left.
    """
    while children := _children():
        for pid in children:
            # A child that nobody waited for keeps its number: this is nobody else.
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    return [int(word) for task in Path("/proc/self/task").iterdir() for word in (task / "children").read_text().split()]
