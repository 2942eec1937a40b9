"""Mounts as a user without rights: ``python -m tests.fuse.unprivileged CASE``, started as root; prints a JSON object.

It runs in a mount namespace of its own, where /dev/fuse is open to everybody and /etc/fuse.conf is empty, whatever the machine
has.  Only after everything is imported does it become the user: the interpreter may lie where that user cannot read.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from unionfs.fuse.mount_error import MountError
from unionfs.fuse.mounting import MountOptions, mount, unmount
from unionfs.linux import mount as linux_mount
from unionfs.linux.mountinfo import read_mountinfo

NOBODY = 65534
SOURCE = "a,b\\c"
_CLONE_NEWNS = 0x20000
_SCRATCH = Path("/mnt")  # the tmpfs on it is seen in this namespace only


def _become_nobody() -> Path:
    """Set the namespace up and give all rights away; returns an empty directory of the user."""
    assert ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) == 0
    linux_mount.mount(b"none", b"/", b"", linux_mount.MS_REC | linux_mount.MS_PRIVATE, b"")
    linux_mount.mount(b"none", os.fsencode(_SCRATCH), b"tmpfs", 0, b"mode=755")
    os.umask(0)
    device = _SCRATCH / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    configuration = _SCRATCH / "fuse.conf"
    configuration.touch()
    linux_mount.mount(os.fsencode(device), b"/dev/fuse", b"", linux_mount.MS_BIND, b"")
    linux_mount.mount(os.fsencode(configuration), b"/etc/fuse.conf", b"", linux_mount.MS_BIND, b"")
    mountpoint = _SCRATCH / "merged"
    mountpoint.mkdir()
    os.chown(mountpoint, NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return mountpoint


def _mount_and_unmount(mountpoint: Path) -> dict[str, object]:
    fd = mount(mountpoint, MountOptions(source=SOURCE, flags=linux_mount.MS_RDONLY | linux_mount.MS_RELATIME))
    (line,) = [line for line in read_mountinfo() if line.mount_point == mountpoint]
    unmount(mountpoint)
    return {
        "fstype": line.fstype,
        "source": line.source,
        "read_only": "ro" in line.options.split(","),
        "owner": f"user_id={NOBODY}" in line.super_options.split(","),
        "blocking": os.get_blocking(fd),
        "cloexec": fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC,
        "left": any(line.mount_point == mountpoint for line in read_mountinfo()),
    }


CASES: dict[str, Callable[[Path], object]] = {
    "mount and unmount": _mount_and_unmount,
    "allow_other": lambda mountpoint: mount(mountpoint, MountOptions(allow_other=True)),
    "allow_root": lambda mountpoint: mount(mountpoint, MountOptions(allow_root=True)),
    "unmount what is not mounted": unmount,
}


def main(case: str) -> None:
    mountpoint = _become_nobody()
    try:
        outcome = CASES[case](mountpoint)
    except MountError as error:
        outcome = {"errno": error.errno, "error": str(error)}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1])
