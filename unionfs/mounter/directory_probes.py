"""Probes of the filesystem that an upper would be on: what copy-up and deletion need of it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from unionfs.linux.links import link_fd
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_WHITEOUT, renameat2
from unionfs.mounter.finding import Finding, Probe

_ANOTHER_FILESYSTEM = "put the upper on ext4, xfs, btrfs or tmpfs"
_NO_WHITEOUT_DEVICES = (
    "unionfs writes extended attributes or .wh. files instead; for devices use Linux 5.8 or newer, where every user may make them"
)
_OWN_FILES_ONLY = (
    "through a mount only files of your own can be changed; mount as root, or in a user namespace with subordinate ids "
    "(podman unshare)"
)
_AS_ROOT = "mount as root; other users get the user.overlay.* namespace instead"


def directory_probes(directory: Path) -> list[Probe]:
    """The probes of this file, each in a scratch directory below ``directory``."""

    def probe(name: str, attempt: Callable[[int], str], remedy: str) -> Probe:
        return Probe(f"{name} in {directory}", lambda: _find(directory, attempt, remedy))

    return [
        probe("trusted.* xattrs", lambda scratch: _xattr(scratch, "trusted.overlay.probe"), _AS_ROOT),
        probe("user.* xattrs", lambda scratch: _xattr(scratch, "user.overlay.probe"), _ANOTHER_FILESYSTEM),
        probe("whiteouts", _whiteout, _NO_WHITEOUT_DEVICES),
        probe("owners", _owner, _OWN_FILES_ONLY),
        probe("O_TMPFILE", _unnamed_file, _ANOTHER_FILESYSTEM),
        probe("RENAME_EXCHANGE", _exchange, _ANOTHER_FILESYSTEM),
        probe("RENAME_WHITEOUT", _rename_whiteout, _ANOTHER_FILESYSTEM),
    ]


def _find(directory: Path, attempt: Callable[[int], str], remedy: str) -> Finding:
    try:
        with tempfile.TemporaryDirectory(prefix=".unionfs-doctor-", dir=directory) as scratch:
            fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return Finding(True, attempt(fd))
            except OSError as error:
                return Finding(False, error.strerror or str(error), remedy)
            finally:
                os.close(fd)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding(False, f"nothing can be made in {directory}: {reason}", "name a directory that you may write to")


def _make(scratch: int, name: bytes) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=scratch))


def _xattr(scratch: int, name: str) -> str:
    os.setxattr(scratch, name, b"y")
    if os.getxattr(scratch, name) != b"y":
        raise OSError(errno.EIO, "an attribute that was set is not read back")
    return "can be set"


def _whiteout(scratch: int) -> str:
    os.mknod(b"whiteout", stat.S_IFCHR, os.makedev(0, 0), dir_fd=scratch)
    return "character devices 0:0 can be made"


def _owner(scratch: int) -> str:
    _make(scratch, b"given")
    os.chown(b"given", 1, 1, dir_fd=scratch)
    return "files can be given to other users"


def _unnamed_file(scratch: int) -> str:
    fd = os.open(b".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=scratch)
    try:
        link_fd(fd, scratch, b"named")
    finally:
        os.close(fd)
    return "files can be made before they get a name"


def _exchange(scratch: int) -> str:
    _make(scratch, b"a")
    _make(scratch, b"b")
    renameat2(scratch, b"a", scratch, b"b", RENAME_EXCHANGE)
    return "two names can be exchanged"


def _rename_whiteout(scratch: int) -> str:
    _make(scratch, b"a")
    renameat2(scratch, b"a", scratch, b"b", RENAME_WHITEOUT)
    return "a rename can leave a whiteout"
