"""How long a thread runs at a time: the custom slice of the fair scheduler (EEVDF), since Linux 6.12.

A thread that asks for a short slice has an early deadline (virtual time at which it has had its slice), and of those that may
run the scheduler takes the one whose deadline is earliest: it runs sooner after it was woken, for a shorter time, and gets no
more in all.  Source: kernel/sched/syscalls.c, ``__setparam_fair``; ``struct sched_attr`` in include/uapi/linux/sched/types.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from ctypes import byref, c_int, c_int32, c_long, c_uint, c_uint32, c_uint64, sizeof

from unionfs.linux.libc import last_error, libc

_SCHED_OTHER, _SCHED_BATCH = 0, 3

# sched_setattr(2), sched_getattr(2): glibc has functions for them since 2.41 only.  The numbers are those of the kernel's
# syscall.tbl files, for 64-bit programs.
_GENERIC = (274, 275)
_NUMBERS = {
    "x86_64": (314, 315),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "ppc64le": (355, 356),
    "s390x": (345, 346),
}

_syscall = libc.syscall
_syscall.restype = c_long


class _SchedAttr(ctypes.Structure):
    """``struct sched_attr`` as it was first (SCHED_ATTR_SIZE_VER0); later fields are about other things and stay as they are."""

    _fields_ = (
        ("size", c_uint32),
        ("sched_policy", c_uint32),
        ("sched_flags", c_uint64),
        ("sched_nice", c_int32),
        ("sched_priority", c_uint32),
        ("sched_runtime", c_uint64),
        ("sched_deadline", c_uint64),
        ("sched_period", c_uint64),
    )


def ask_for_slice(nanoseconds: int) -> None:
    """Ask for slices of this length for the calling thread, and those that it starts; policy and nice value stay.

    The kernel takes 100 µs to 100 ms and cuts off what is beyond; before Linux 6.12 it accepts the call and does nothing.

    Raises:
        OSError: ENOSYS (the number of the system call on this machine is not known here, or a filter hides it), EPERM (a filter
            forbids it), EINVAL (the thread has a policy without such slices: a real-time one).
    """
    attributes = _attributes()
    if attributes.sched_policy not in (_SCHED_OTHER, _SCHED_BATCH):
        raise OSError(errno.EINVAL, "the thread's policy knows no slices")
    attributes.sched_runtime = nanoseconds
    if _syscall(c_long(_number(0)), c_int(0), byref(attributes), c_uint(0)):
        raise last_error()


def current_slice() -> int:
    """The slice of the calling thread in nanoseconds; 0 before Linux 6.12.

    Raises:
        OSError: ENOSYS, EPERM: as `ask_for_slice`.
    """
    return int(_attributes().sched_runtime)


def _attributes() -> _SchedAttr:
    attributes = _SchedAttr()
    if _syscall(c_long(_number(1)), c_int(0), byref(attributes), c_uint(sizeof(attributes)), c_uint(0)):
        raise last_error()
    return attributes


def _number(index: int) -> int:
    numbers = _NUMBERS.get(os.uname().machine)
    if numbers is None or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return numbers[index]
