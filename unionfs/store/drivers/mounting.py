"""Carrying a `Mount` out, undoing it, and telling which mounts there are of a snapshot, in whatever mount namespace.

A mount is known again by its source, the directory of the snapshot, or, of a bind mount, by the directory that it shows: what the
kernel keeps, so nothing of ours can disagree with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.linux.mount import MS_BIND, MS_RDONLY, MS_REMOUNT, UMOUNT_NOFOLLOW, mount, umount
from unionfs.linux.mountinfo import Mount as MountedHere
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.linux.mounts_everywhere import mount_namespaces
from unionfs.linux.overlay_mount import mount_overlay
from unionfs.mounter.daemon import start_daemon
from unionfs.mounter.errors import from_os_error
from unionfs.mounter.lookup import registered_mount, resolve_mountpoint
from unionfs.mounter.option_syntax import split_options, unescape
from unionfs.mounter.options import Dialect, parse_options
from unionfs.mounter.request import build_request
from unionfs.mounter.unmounting import unmount_union
from unionfs.store.drivers import Mount

UNION, OVERLAY, BIND = "fuse.unionfs", "overlay", "bind"

_IN_USE = "end what uses it (fuser -vm), then try again"
_REMEDIES = {
    errno.EPERM: "run as root",
    errno.EACCES: "run as root",
    errno.ENOENT: "make the mount point first",
    errno.ENOTDIR: "give a directory",
    errno.ENODEV: "this kernel has no such filesystem; use another driver (--driver)",
    errno.ENAMETOOLONG: "use a store with a shorter path (--root)",
    errno.EBUSY: _IN_USE,
}


def escaped(value: str) -> str:
    """``value`` as it stands in options of mount(8): a comma would begin the next one."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


# -- mounting -----------------------------------------------------------------------------------------------------------


def mount_all(mounts: Sequence[Mount], target: Path) -> None:
    """Mount them all, or none, on ``target``, an existing directory.

    Raises:
        MounterError: one was refused; those before it are undone.
    """
    done: list[Path] = []
    try:
        for each in mounts:
            where = target / each.target if each.target else target
            _mount_one(each, where)
            done.append(where)
    except BaseException:
        for where in reversed(done):
            unmount_one(where)
        raise


def _mount_one(each: Mount, target: Path) -> None:
    carry_out = _KINDS[each.type]
    try:
        carry_out(each, target)
    except OSError as error:
        raise from_os_error(error, str(target), _REMEDIES.get(error.errno or 0)) from error


def _mount_union(each: Mount, target: Path) -> None:
    options = parse_options([",".join(each.options)], Dialect.MOUNT_HELPER)
    options.settings.setdefault("source", each.source)
    start_daemon(build_request(options, target, dialect=Dialect.MOUNT_HELPER))


def _mount_overlay(each: Mount, target: Path) -> None:
    options = [(name, unescape(value) if value is not None else None) for name, value in split_options(",".join(each.options))]
    is_read_only = ("ro", None) in options
    mount_overlay([option for option in options if option != ("ro", None)], each.source, target, read_only=is_read_only)


def _mount_bind(each: Mount, target: Path) -> None:
    path = os.fsencode(target)
    mount(os.fsencode(each.source), path, b"", MS_BIND, b"")
    if "ro" not in each.options:
        return
    # The first call passes over MS_RDONLY (mount(2)).  Nobody can have the mount yet who would write to it.
    try:
        mount(b"", path, b"", MS_REMOUNT | MS_BIND | MS_RDONLY, b"")
    except OSError:
        umount(path, UMOUNT_NOFOLLOW)
        raise


_KINDS: dict[str, Callable[[Mount, Path], None]] = {UNION: _mount_union, OVERLAY: _mount_overlay, BIND: _mount_bind}


# -- unmounting ---------------------------------------------------------------------------------------------------------


def unmount_one(target: Path) -> bool:
    """Take away the topmost mount on ``target``; whether there was one.  Of a union the daemon has ended on return.

    Raises:
        MounterError: it is in use, or may not be unmounted.
    """
    mountpoint = resolve_mountpoint(target)
    covering = [each for each in read_mountinfo() if each.mount_point == mountpoint]
    if not covering:
        return False
    try:
        if covering[-1].fstype == UNION:
            _unmount_union(mountpoint, covering[-1])
        else:
            umount(os.fsencode(mountpoint), UMOUNT_NOFOLLOW)
    except OSError as error:
        raise from_os_error(error, str(mountpoint), _REMEDIES.get(error.errno or 0)) from error
    return True


def _unmount_union(mountpoint: Path, mount_there: MountedHere) -> None:
    found = registered_mount(mount_there)
    unmount_union(mountpoint)
    if found is not None:
        # A daemon that this very process has started is its child, and stays as a zombie until it is waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(found.record.pid, os.WNOHANG)


# -- finding ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MountPoint:
    """Where something is mounted; ``is_here``: in the mount namespace of this process, so that it can be unmounted."""

    path: Path
    is_here: bool


def mount_points(directory: Path) -> list[MountPoint]:
    """Where the snapshot with ``directory`` is mounted, the latest mount first; in every mount namespace of a process that may be
    looked at, because containers run in others."""
    shown = _as_mounted(directory)
    found = []
    for namespace in mount_namespaces():
        mounts = reversed(namespace.mounts)
        found += [MountPoint(each.mount_point, namespace.is_own) for each in mounts if _is_of(each, directory, shown)]
    return found


def _is_of(each: MountedHere, directory: Path, shown: tuple[int, Path]) -> bool:
    if each.fstype in (UNION, OVERLAY) and each.source == str(directory):
        return True
    device, root = shown
    return each.device == device and Path(each.root).is_relative_to(root)


def _as_mounted(directory: Path) -> tuple[int, Path]:
    """The filesystem of ``directory``, and its path from that filesystem's root: how mountinfo would show a bind mount of it."""
    path = Path(os.path.realpath(directory))
    above = [mount for mount in read_mountinfo() if path.is_relative_to(mount.mount_point)]
    # Of several mounts on one directory the last counts.
    deepest = max(reversed(above), key=lambda mount: len(mount.mount_point.parts))
    return deepest.device, Path(deepest.root) / path.relative_to(deepest.mount_point)
