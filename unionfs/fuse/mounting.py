"""Attaching a FUSE connection to a directory, and detaching it: by mount(2) where the process may, else by fusermount3.

No libfuse is involved.  Option strings are those of the kernel's fs/fuse/inode.c (``fuse_fs_parameters``) and of fusermount3(1).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from unionfs.fuse import fusermount
from unionfs.fuse.mount_error import MountError
from unionfs.linux import mount as linux_mount
from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability

FUSE_DEVICE = "/dev/fuse"

# How the flags of mount(2) are spelled in the options of fusermount3, which knows no other way.
_FLAG_WORDS = {
    linux_mount.MS_RDONLY: "ro",
    linux_mount.MS_NOSUID: "nosuid",
    linux_mount.MS_NODEV: "nodev",
    linux_mount.MS_NOEXEC: "noexec",
    linux_mount.MS_SYNCHRONOUS: "sync",
    linux_mount.MS_DIRSYNC: "dirsync",
    linux_mount.MS_NOATIME: "noatime",
}
# Mount flags that fusermount3 refuses as unknown options; leaving them out changes no result, since FUSE inodes have no atime of
# their own (fs/fuse/inode.c sets S_NOATIME on each).
_FLAGS_WITHOUT_WORD = linux_mount.MS_NODIRATIME | linux_mount.MS_RELATIME | linux_mount.MS_STRICTATIME


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount.

    ``extra`` are further options for the kernel's FUSE, such as ``max_read=65536`` or ``context="…"``, given as they are.
    """

    source: str = "unionfs"
    """First column of /proc/mounts."""
    subtype: str = "unionfs"
    """The mount has the type ``fuse.SUBTYPE``."""
    flags: int = 0
    """``MS_*`` bits of `unionfs.linux.mount`."""
    allow_other: bool = False
    """Other users than the one who mounts may use it."""
    allow_root: bool = False
    """Root may use it besides the one who mounts.  Only allowed where it changes nothing: see `mount`."""
    default_permissions: bool = True
    """The kernel checks modes and ACLs; a union relies on it."""
    extra: tuple[str, ...] = ()


def mount(mountpoint: Path, options: MountOptions) -> int:
    """Mount a new FUSE connection on ``mountpoint``; returns the descriptor that requests are read from (non-blocking, cloexec).

    Until a session answers INIT every access to the mount waits, so do not touch it.

    Raises:
        MountError: with errno, the mount point (or other thing) it is about, and the remedy.
    """
    if options.allow_root and os.geteuid() != 0:
        # libfuse refuses other users request by request; with names and data cached by the kernel, most are never sent.
        raise MountError(errno.EINVAL, "allow_root", "cannot be kept to when the kernel caches; use allow_other, or leave it out")
    mode = _mountpoint_mode(mountpoint)
    fd = (
        _mount_directly(mountpoint, mode, options) if _may_mount() else fusermount.mount(mountpoint, _fusermount_options(options))
    )
    os.set_blocking(fd, False)
    return fd


def unmount(mountpoint: Path, lazy: bool = False) -> None:
    """Detach the mount on ``mountpoint``; ``lazy``: from the directory tree at once, entirely when nobody uses it any more.

    Raises:
        MountError: EINVAL (nothing is mounted there), EBUSY (in use), EPERM.
    """
    if not _may_mount():
        fusermount.unmount(mountpoint, lazy)
        return
    flags = linux_mount.UMOUNT_NOFOLLOW | (linux_mount.MNT_DETACH if lazy else 0)
    try:
        linux_mount.umount(os.fsencode(mountpoint), flags)
    except OSError as error:
        raise _explained(error, str(mountpoint), _UMOUNT_REMEDIES) from error


def _may_mount() -> bool:
    # Of the user namespace that the process is in: FUSE may be mounted in any (FS_USERNS_MOUNT).
    return has_capability(CAP_SYS_ADMIN)


_DEVICE_REMEDIES = {
    errno.ENOENT: "no such device; load the kernel module: modprobe fuse",
    errno.ENODEV: "no driver for it; load the kernel module: modprobe fuse",
    errno.ENXIO: "no driver for it; load the kernel module: modprobe fuse",
    errno.EACCES: "permission denied; run as root, or: chmod 0666 /dev/fuse",
    errno.EPERM: "not permitted; allow the device (10:229) in the container or cgroup",
}
_MOUNT_REMEDIES = {
    errno.EPERM: "mount(2) not permitted; run as root (CAP_SYS_ADMIN), or install fusermount3",
    errno.ENODEV: "the kernel has no FUSE; load the module: modprobe fuse",
    errno.EBUSY: "is busy; choose another mount point",
    errno.EINVAL: "the kernel refuses the mount options; see dmesg",
    errno.ENOTDIR: "is no directory; mount on a directory",
}
_UMOUNT_REMEDIES = {
    errno.EINVAL: "is not mounted",
    errno.EBUSY: "is in use; end what uses it (fuser -vm), or unmount lazily (-l)",
    errno.EPERM: "umount(2) not permitted; run as root",
    errno.ENOENT: "no such directory",
}
_MOUNTPOINT_REMEDIES = {
    errno.ENOENT: "no such directory; make it first: mkdir",
    errno.EACCES: "permission denied",
    errno.ENOTCONN: "is the mount point of a dead FUSE server; clean up with: umount",
}


def _explained(error: OSError, thing: str, remedies: dict[int, str]) -> MountError:
    number = error.errno or errno.EIO
    return MountError(number, thing, remedies.get(number, os.strerror(number)))


def _mountpoint_mode(mountpoint: Path) -> int:
    try:
        mode = os.stat(mountpoint).st_mode
    except OSError as error:
        raise _explained(error, str(mountpoint), _MOUNTPOINT_REMEDIES) from error
    if not stat.S_ISDIR(mode):
        raise MountError(errno.ENOTDIR, str(mountpoint), _MOUNT_REMEDIES[errno.ENOTDIR])
    return stat.S_IFMT(mode)


def _mount_directly(mountpoint: Path, mode: int, options: MountOptions) -> int:
    try:
        fd = os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _explained(error, FUSE_DEVICE, _DEVICE_REMEDIES) from error
    with contextlib.ExitStack() as on_error:
        on_error.callback(os.close, fd)
        words = [f"fd={fd}", f"rootmode={mode:o}", f"user_id={os.geteuid()}", f"group_id={os.getegid()}", *_common_words(options)]
        fstype = f"fuse.{options.subtype}".encode()
        data = os.fsencode(",".join(words))
        # MS_POSIXACL leaves the umask to the session (fs/fuse/inode.c, fuse_fill_super_common): it does not apply where the
        # parent has a default ACL.  The direct session asks for that in INIT as well (DONT_MASK), pyfuse3 cannot.
        flags = options.flags | linux_mount.MS_POSIXACL
        try:
            linux_mount.mount(os.fsencode(options.source), os.fsencode(mountpoint), fstype, flags, data)
        except OSError as error:
            raise _explained(error, str(mountpoint), _MOUNT_REMEDIES) from error
        on_error.pop_all()
    return fd


def _common_words(options: MountOptions) -> list[str]:
    words = list(options.extra)
    if options.default_permissions:
        words.append("default_permissions")
    if options.allow_other:
        words.append("allow_other")
    return words


def _fusermount_options(options: MountOptions) -> str:
    unknown = options.flags & ~_FLAGS_WITHOUT_WORD
    words = []
    for flag, word in _FLAG_WORDS.items():
        if options.flags & flag:
            words.append(word)
            unknown &= ~flag
    if unknown:
        raise MountError(errno.EINVAL, f"mount flags {unknown:#x}", f"{fusermount.PROGRAM} has no option for them; mount as root")
    return ",".join(
        [*words, *_common_words(options), f"fsname={_escaped(options.source)}", f"subtype={_escaped(options.subtype)}"]
    )


def _escaped(value: str) -> str:
    # libfuse, util/fusermount.c: in the values of fsname and subtype a backslash takes the next character as it is.
    return value.replace("\\", "\\\\").replace(",", "\\,")
