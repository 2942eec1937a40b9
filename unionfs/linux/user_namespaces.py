"""Making, joining and looking at user namespaces: user_namespaces(7), setns(2)."""

from __future__ import annotations

import os
from ctypes import c_int
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.libc import last_error, libc
from unionfs.linux.mount import MS_REC, mount

# include/uapi/linux/sched.h, include/uapi/linux/fs.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_SLAVE = 1 << 19

_unshare = libc.unshare
_unshare.argtypes = (c_int,)
_setns = libc.setns
_setns.argtypes = (c_int, c_int)


class IdRange(NamedTuple):
    """``length`` ids from ``inside`` on are, seen from the parent namespace, those from ``outside`` on."""

    inside: int
    outside: int
    length: int


def enter_new_user_namespace() -> None:
    """Give the process, which has one thread, a user namespace and in it a mount namespace of its own.  No id is mapped yet.

    Raises:
        OSError: EPERM (forbidden, or the process is in a chroot), ENOSPC (too many, or none are allowed), EINVAL (several
            threads, or a kernel without user namespaces).
    """
    if _unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        raise last_error()


def enter_dependent_mount_namespace() -> None:
    """Give the process mounts of its own: what is mounted in the namespace it comes from shows here too, but not the other way
    round.

    Raises:
        OSError: EPERM (no CAP_SYS_ADMIN), ENOSPC (too many namespaces).
    """
    if _unshare(_CLONE_NEWNS):
        raise last_error()
    receive_mounts()


def receive_mounts() -> None:
    """What others mount shows in the mount namespace of this process, and what it mounts does not show elsewhere.

    Raises:
        OSError: EPERM, EACCES (no CAP_SYS_ADMIN that counts).
    """
    mount(b"none", b"/", b"none", MS_REC | _MS_SLAVE, b"")


def join_user_namespace(fd: int) -> None:
    """Become a member of the user namespace that ``fd`` (of ``/proc/PID/ns/user``) is about, with all rights in it.

    Raises:
        OSError: EPERM (neither its owner nor with rights in it), EINVAL (the process is in it already, or has several threads).
    """
    if _setns(fd, _CLONE_NEWUSER):
        raise last_error()


def join_mount_namespace(fd: int) -> None:
    """See the mounts of the namespace that ``fd`` (of ``/proc/PID/ns/mnt``) is about.  Root and working directory are then the
    root of that namespace.

    Raises:
        OSError: EPERM (no rights in the user namespace that it belongs to).
    """
    if _setns(fd, _CLONE_NEWNS):
        raise last_error()


def map_only_this_user(uid: int, gid: int) -> None:
    """In a new user namespace: let root be the user ``uid`` and group ``gid``, who made it; nobody else is there, and
    setgroups(2) is forbidden (user_namespaces(7), "Defining user and group ID mappings").

    Raises:
        OSError: EPERM (it is mapped already, or another user's).
    """
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text)


def mapped_uids(pid: str = "self") -> list[IdRange]:
    """The users that the user namespace of a process has.

    Raises:
        OSError: ENOENT (no such process).
    """
    return _ranges(Path("/proc", pid, "uid_map"))


def mapped_gids(pid: str = "self") -> list[IdRange]:
    """The groups that the user namespace of a process has.

    Raises:
        OSError: ENOENT (no such process).
    """
    return _ranges(Path("/proc", pid, "gid_map"))


def may_set_groups() -> bool:
    """Whether the user namespace of this process lets anybody call setgroups(2).

    Raises:
        OSError: /proc is not mounted.
    """
    return Path("/proc/self/setgroups").read_text().strip() != "deny"


def contains(ranges: list[IdRange], number: int) -> bool:
    """Whether an id as seen inside is mapped."""
    return any(each.inside <= number < each.inside + each.length for each in ranges)


def _ranges(path: Path) -> list[IdRange]:
    return [IdRange(*map(int, line.split())) for line in path.read_text().splitlines()]


def namespace_identity(path: str, dir_fd: int | None = None) -> tuple[int, int]:
    """``st_dev`` and ``st_ino`` of a namespace's entry below /proc, by which it is told from others that are there.

    Raises:
        OSError: EACCES (another user's process), ENOENT (no such process).
    """
    found = os.stat(path, dir_fd=dir_fd)
    return found.st_dev, found.st_ino
