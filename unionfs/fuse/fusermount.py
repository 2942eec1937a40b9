"""Mounting for users who may not call mount(2): through the set-user-id program fusermount3.

The protocol is the one libfuse uses (lib/mount.c): the program finds the number of a Unix socket in the environment variable
``_FUSE_COMMFD``, mounts, and sends the descriptor of /dev/fuse over it with one byte.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from unionfs.fuse.mount_error import MountError

PROGRAM = "fusermount3"

# What the program says, and what helps.  It always exits with 1, so its words are all there is to tell errors by
# (libfuse, util/fusermount.c).
_KNOWN_TROUBLES = (
    ("user_allow_other", errno.EPERM, "allow_other: add the line user_allow_other to /etc/fuse.conf, or leave the option out"),
    ("too many FUSE filesystems", errno.EPERM, "too many FUSE mounts; raise mount_max in /etc/fuse.conf"),
    ("not found in /etc/mtab", errno.EINVAL, "is not mounted"),
    ("entry for", errno.EINVAL, "is not mounted"),
    ("Invalid argument", errno.EINVAL, "is not mounted"),
    ("busy", errno.EBUSY, "is in use; end what uses it (fuser -vm), or unmount lazily (-l)"),
    ("no write access", errno.EACCES, "no write access to the mount point; choose a directory of your own"),
    ("failed to open /dev/fuse", errno.EACCES, "/dev/fuse cannot be opened; chmod 0666 /dev/fuse, or modprobe fuse"),
    ("fuse device not found", errno.ENODEV, "/dev/fuse is missing; modprobe fuse"),
    ("Operation not permitted", errno.EPERM, "not permitted; is fusermount3 set-user-id root?"),
)


def mount(mountpoint: Path, options: str) -> int:
    """Mount with the comma-separated ``options`` of fusermount3(1) and return the connection's descriptor (cloexec).

    Raises:
        MountError: with what fusermount3 said.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
            complaint = _run(["-o", options, "--", str(mountpoint)], mountpoint, environment, (theirs.fileno(),))
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise MountError(errno.EIO, str(mountpoint), f"{PROGRAM} mounted nothing: {complaint or 'it gave no reason'}")
    # socket.recv_fds takes flags but does not pass them on, so MSG_CMSG_CLOEXEC would do nothing.
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def unmount(mountpoint: Path, lazy: bool) -> None:
    """Unmount what the same user mounted.

    Raises:
        MountError: with what fusermount3 said.
    """
    _run(["-u", *(["-z"] if lazy else []), "--", str(mountpoint)], mountpoint)


def _run(
    arguments: Sequence[str], mountpoint: Path, environment: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> str:
    """Run the program and return what it wrote on stderr; `MountError` if it failed."""
    try:
        done = subprocess.run(
            # C: its words are looked up in _KNOWN_TROUBLES.
            [PROGRAM, *arguments],
            env={**(os.environ if environment is None else environment), "LC_ALL": "C"},
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except FileNotFoundError as missing:
        raise MountError(errno.ENOENT, PROGRAM, "not found; install the package fuse3, or run as root") from missing
    complaint = os.fsdecode(done.stderr).strip()
    if done.returncode:
        raise _error(complaint, mountpoint)
    return complaint


def _error(complaint: str, mountpoint: Path) -> MountError:
    for words, number, remedy in _KNOWN_TROUBLES:
        if words in complaint:
            return MountError(number, str(mountpoint), remedy)
    return MountError(errno.EIO, str(mountpoint), complaint or f"{PROGRAM} failed and gave no reason")
