"""A child process that shares its parent's table of open files: what it opens stays open when it is killed."""

from __future__ import annotations

import ctypes
import os
import signal

from unionfs.linux.libc import last_error

_CLONE_FILES = 0x400  # include/uapi/linux/sched.h
_SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}

# With the interpreter's lock held: nothing of Python may run between the call and what the child has to put right.
_python = ctypes.PyDLL(None, use_errno=True)
_python.syscall.restype = ctypes.c_long


def fork_sharing_files() -> int:
    """As fork(2), but both processes have one table of open files: a descriptor that either opens or closes is open or closed in
    the other.  For a process with a single thread.  Returns the child's process id, 0 in the child.

    Raises:
        OSError: as clone(2); ENOSYS: not known how to call it on this machine.
    """
    machine = os.uname().machine
    # All arguments but the flags are 0, so that their order, which differs between machines, does not matter.
    number = _SYS_CLONE.get(machine, -1)
    _python.PyOS_BeforeFork()
    ctypes.set_errno(0)
    pid: int = _python.syscall(ctypes.c_long(number), ctypes.c_long(_CLONE_FILES | signal.SIGCHLD), *[ctypes.c_long(0)] * 4)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    error = last_error() if pid < 0 else None
    _python.PyOS_AfterFork_Parent()
    if error is not None:
        raise error
    return pid
