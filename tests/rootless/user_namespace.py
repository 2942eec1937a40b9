"""Runs a command as root of a user namespace of its own: ``python -m tests.rootless.user_namespace COMMAND…``, started as root.

All of the machine's users are mapped to themselves, so that files keep their owners, while no right over the machine is left:
neither CAP_SYS_ADMIN nor CAP_MKNOD outside of the namespace.  Mounts and processes are the namespace's own and end with it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from tests.rootless.user import let_go_of_unions
from unionfs.linux.namespaces import enter_private_mount_namespace

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
_USERS = 65536


def enter() -> None:
    """Return in a process of new namespaces; the one before waits for its end and ends with its status."""
    libc = ctypes.CDLL(None, use_errno=True)
    entered, mapped = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        os.read(entered[0], 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 0 {_USERS}")
        os.write(mapped[1], b"m")
        _end_as(pid)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID):
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(entered[1], b"e")
    os.read(mapped[0], 1)
    first = os.fork()  # the first process of the new namespace of processes: with it all others end
    if first:
        _end_as(first)
    for source, target, fstype, flags in ((b"none", b"/", None, 0x44000), (b"proc", b"/proc", b"proc", 0)):
        if libc.mount(source, target, fstype, flags, None):
            raise OSError(ctypes.get_errno(), f"mount of {target.decode()}")
    for fd in (*entered, *mapped):
        os.close(fd)


def _end_as(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0x7F)


if __name__ == "__main__":
    enter_private_mount_namespace()
    let_go_of_unions()  # while we may: in the user namespace they are locked
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted
