"""Namespaces: mount_namespaces(7), user_namespaces(7)."""

from __future__ import annotations

import os
from ctypes import c_int
from pathlib import Path

from unionfs.linux.libc import last_error, libc
from unionfs.linux.mount import MS_PRIVATE, MS_REC, mount

_CLONE_NEWNS = 0x00020000  # include/uapi/linux/sched.h

_unshare = libc.unshare
_unshare.argtypes = (c_int,)


def enter_private_mount_namespace() -> None:
    """Give the process mounts of its own: what it mounts from now on shows nowhere else, and goes when it ends.

    Raises:
        OSError: EPERM (no CAP_SYS_ADMIN), ENOSPC (too many namespaces).
    """
    if _unshare(_CLONE_NEWNS):
        raise last_error()
    # A new namespace still hands its mounts on to the old one where that is shared, which systemd makes all mounts.
    mount(b"none", b"/", b"none", MS_REC | MS_PRIVATE, b"")


def mount_namespace(pid: int | None = None) -> tuple[int, int]:
    """Which mount namespace process ``pid`` (default: this one) is in, as ``st_dev`` and ``st_ino`` of its /proc entry.

    Raises:
        OSError: EACCES (another user's process), ENOENT (no such process).
    """
    found = os.stat(f"/proc/{'self' if pid is None else pid}/ns/mnt")
    return found.st_dev, found.st_ino


def overflow_ids() -> tuple[int, int]:
    """The uid and gid that stand for those that have no counterpart (user_namespaces(7)).

    Raises:
        OSError: /proc is not mounted.
    """
    uid, gid = (int(Path(f"/proc/sys/kernel/overflow{kind}").read_text()) for kind in ("uid", "gid"))
    return uid, gid
