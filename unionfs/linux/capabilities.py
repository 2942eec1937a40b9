"""What the process may do: capabilities(7) and user_namespaces(7)."""

from __future__ import annotations

import os
from pathlib import Path

# include/uapi/linux/capability.h
CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_MKNOD = 27
CAP_SETFCAP = 31

# The inode number of the first user namespace is fixed: PROC_USER_INIT_INO of include/linux/proc_ns.h (since Linux 3.8).
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD


def has_capability(number: int) -> bool:
    """Whether capability ``number`` (``CAP_*``) is in the effective set of this thread.

    In another user namespace than the initial one it counts only for what belongs to that namespace
    (`in_initial_user_namespace`).

    Raises:
        OSError: ENOENT (/proc is not mounted).
    """
    # thread-self, not self: capabilities belong to threads, and "self" is the main one.
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    raise LookupError("/proc/thread-self/status has no line CapEff")


def in_initial_user_namespace() -> bool:
    """Whether root here is root of the machine.

    Raises:
        OSError: ENOENT (/proc is not mounted).
    """
    try:
        return os.stat("/proc/self/ns/user").st_ino == _INITIAL_USER_NAMESPACE
    except FileNotFoundError:
        # A kernel without user namespaces has no such file, and only the one.
        if Path("/proc/self/ns").is_dir():
            return True
        raise
