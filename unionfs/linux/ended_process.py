"""A process that has ended but for threads that no signal can end: wait(2) does not tell of it before they have ended, too.

A thread that writes to /dev/fuse what the kernel is to forget waits there for locks and pages that requests hold, and sleeps as
if it waited for a disk: it ends once somebody answers these requests.
"""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.linux.process_stat import stat_fields

_EXIT_CODE = 52
"""Which field of /proc/PID/stat is the status as wait(2) gives it (proc_pid_stat(5))."""


def status_of_ended(pid: int) -> int | None:
    """The wait status of a child whose main thread has ended, whatever its other threads do; None while that goes on, or once
    there is no such process any more.

    Opens no file as long as it goes on: the child may share our table of open files, and close what it does not know.
    """
    try:
        os.readlink(f"/proc/{pid}/exe")
        return None
    except PermissionError:
        return None
    except OSError:
        pass  # it has no memory any more
    try:
        fields = stat_fields(Path(f"/proc/{pid}"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[_EXIT_CODE - 3]) if fields[0] == b"Z" else None


def only_writes_to(path: str, pid: int) -> bool:
    """Whether all threads that are left of an ended process, which shared its table of open files with this one, are in a system
    call on an open ``path``."""
    left = _calls(pid)
    return bool(left) and all(descriptor is not None and _leads_to(descriptor, path) for descriptor in left)


def _calls(pid: int) -> list[int | None]:
    """The first arguments of the system calls in which its threads are; None: in none, or it may not be looked at."""
    found: list[int | None] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            if stat_fields(thread)[0] == b"Z":
                continue
            words = (thread / "syscall").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        except PermissionError:
            words = []
        # "running", or "-1 SP PC" outside any call, or number, arguments, SP, PC (proc_pid_syscall(5)).
        found.append(int(words[1], 16) if len(words) > 3 else None)
    return found


def _leads_to(descriptor: int, path: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == path
    except FileNotFoundError:
        return False
