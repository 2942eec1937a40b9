"""What is refused before anything is mounted, each with the remedy.

Most of it would show only later, and badly: a layer that contains the mount point makes the daemon wait for itself (no signal
ends that), two writers of one upper corrupt it, a work directory on another filesystem fails every copy-up.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.mountinfo import Mount, read_mountinfo
from unionfs.mounter.errors import MounterError, RefusedError
from unionfs.mounter.locations import Key, Location, Locator
from unionfs.mounter.registry import FSTYPE
from unionfs.mounter.request import MountRequest
from unionfs.overlay import incompat
from unionfs.overlay.index import has_index

_FUSE_DEVICE = "/dev/fuse"
_DATA_ONLY = "data-only layer"


class _Part(NamedTuple):
    """A directory of the request: ``role`` is what messages call it."""

    role: str
    location: Location


def check(request: MountRequest) -> MountRequest:
    """``request`` with its paths absolute and free of symbolic links and its work directory chosen, if nothing speaks against it.

    With `MountRequest.read_only` an upper is looked at, never written, and needs no work directory; there may be one, for its
    index.  Makes and changes nothing.

    Raises:
        RefusedError: the first thing found that must not be mounted.
    """
    _check_fuse_device()
    mounts = read_mountinfo()
    mountpoint = _check_mountpoint(request.mountpoint, mounts)
    lowers = tuple(check_directory("lower", path) for path in request.lowers)
    data = tuple(check_directory(_DATA_ONLY, path) for path in request.data)
    upper = check_directory("upper", request.upper) if request.upper else None
    work: Path | None = None
    if upper is not None and request.read_only:
        work = request.work or default_work(upper)
        if os.access(work / "work", os.R_OK, effective_ids=True):  # somebody else's need not be
            _check_no_incompat(work)
    locator = Locator(mounts)
    parts = [_Part("lower", _locate(locator, path)) for path in lowers]
    data_parts = [_Part(_DATA_ONLY, _locate(locator, path)) for path in data]
    if upper is not None and work is not None and request.read_only:
        work = work if has_index(work) else None
        parts.append(_Part("upper", _locate(locator, upper)))
    elif upper is not None:
        _check_writable("upper", upper)
        parts.append(_Part("upper", _locate(locator, upper)))
        work, work_part = _choose_work(request.work, upper, locator)
        parts += work_part
        _check_same_mount(parts[len(lowers)], work, locator)
        check_not_in_overlay({"upper": upper, "work": work}, mounts)
        _check_no_incompat(work)
    _check_apart([*parts, *data_parts, _Part("mount point", _locate(locator, mountpoint))])
    return dataclasses.replace(request, mountpoint=mountpoint, lowers=lowers, data=data, upper=upper, work=work)


def check_added_layer(given: Path, directories: list[tuple[str, str]]) -> Path:
    """``given`` absolute and free of symbolic links, if it may become a lower layer of a union that is mounted.

    ``directories`` are those of the union: what messages call each, and its path.  Not for the daemon of that union, which would
    wait for itself.

    Raises:
        RefusedError: it is not fit, or overlaps with one of them.
    """
    path = check_directory("lower", given)
    locator = Locator(read_mountinfo())
    present = [_Part(role, _locate(locator, Path(other))) for role, other in directories]
    _check_apart([*present, _Part("lower", _locate(locator, path))])
    return path


def default_work(upper: Path) -> Path:
    """The work directory of ``upper`` where the user names none: ``.NAME.work`` beside it."""
    return upper.with_name(f".{upper.name}.work")


# -- single directories -------------------------------------------------------------------------------------------------


def _check_fuse_device() -> None:
    try:
        os.close(os.open(_FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise RefusedError(
            _FUSE_DEVICE, "no such device", "load the kernel module (modprobe fuse), or give the container the device"
        ) from None
    except OSError as error:
        remedy = (
            "run as root, or let users have it (chmod 0666 /dev/fuse)"
            if error.errno == errno.EACCES
            else "unionfs doctor tells more"
        )
        raise RefusedError(_FUSE_DEVICE, _words(error), remedy) from None


def _check_mountpoint(given: Path, mounts: list[Mount]) -> Path:
    # Not strict: lstat of a dead mount fails with ENOTCONN, and what is there is better told from mountinfo.
    path = Path(os.path.realpath(given))
    if any(mount.mount_point == path and mount.fstype == FSTYPE for mount in mounts):
        raise RefusedError(
            str(path), "a union is mounted there already", f"unmount it first (unionfs umount {path}), or choose another"
        )
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        remedy = "make the directory first" if error.errno == errno.ENOENT else "choose another mount point"
        raise RefusedError(str(given), f"mount point: {_words(error)}", remedy) from None
    if not stat.S_ISDIR(mode):
        raise RefusedError(str(given), "mount point is not a directory", "choose a directory")
    return path


def check_directory(role: str, given: Path) -> Path:
    """``given`` absolute and free of symbolic links, if it is a directory that can be read and searched.

    Raises:
        RefusedError: it is not; ``role`` is what the message calls it.
    """
    try:
        path = Path(os.path.realpath(given, strict=True))
        # Opened, not asked of access(2): only an open is subject to all that may forbid it.
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise RefusedError(str(given), f"{role}: {_words(error)}", _DIRECTORY_REMEDIES.get(error.errno or 0)) from None
    if not os.access(path, os.X_OK, effective_ids=True):
        raise RefusedError(str(given), f"{role}: no right to search it", _DIRECTORY_REMEDIES[errno.EACCES])
    return path


_DIRECTORY_REMEDIES = {
    errno.ENOENT: "make it, or correct the path",
    errno.ENOTDIR: "give a directory",
    errno.EACCES: "get the right to read and search it, or run as root",
    errno.ENOTCONN: "the server of a FUSE mount there is dead; unmount it first",
    errno.ELOOP: "a symbolic link leads to itself; correct it",
}


def _check_writable(role: str, path: Path) -> None:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise RefusedError(str(path), f"{role}: on a read-only filesystem", "choose another directory, or mount with ro")
    if not os.access(path, os.W_OK, effective_ids=True):
        raise RefusedError(str(path), f"{role}: no right to write", "get the right to write there, or run as root")


def _locate(locator: Locator, path: Path) -> Location:
    try:
        return locator.locate(path)
    except OSError as error:
        raise RefusedError(str(path), _words(error), "get the right to search the directories above it") from None


# -- the work directory -----------------------------------------------------------------------------------------------------


def _choose_work(given: Path | None, upper: Path, locator: Locator) -> tuple[Path, list[_Part]]:
    """The work directory, and its part of the request unless it is yet to be made."""
    if given is None:
        path = default_work(upper)
        if not os.path.lexists(path):
            _check_writable("directory of the upper", upper.parent)
            return path, []
        # In a directory that others may write to, somebody else may have thought of the name first.
        if path.is_symlink() or path.lstat().st_uid != os.geteuid():
            problem = "default work directory is a symbolic link or somebody else's"
            raise RefusedError(str(path), problem, "name the work directory (-w, workdir)")
        given = path
    path = check_directory("work", given)
    _check_writable("work", path)
    return path, [_Part("work", _locate(locator, path))]


def _check_same_mount(upper: _Part, work: Path, locator: Locator) -> None:
    where = _locate(locator, work if work.exists() else work.parent)
    if where.mount_id != upper.location.mount_id:
        # Two bind mounts of one filesystem will not do either: rename(2) does not cross mounts (EXDEV).
        raise RefusedError(
            str(work),
            f"work is not on the same mount as the upper {upper.location.path}",
            "give a work directory beside the upper (-w, workdir)",
        )


def _check_no_incompat(work: Path) -> None:
    marks = work / "work" / incompat.INCOMPAT
    try:
        features = incompat.features(work / "work")
    except OSError as error:
        raise RefusedError(
            str(marks), _words(error), f"chmod u+rwx {work}/work, which OverlayFS closes, or run as root"
        ) from None
    if not features:
        return
    if features == [incompat.VOLATILE]:
        problem = "the upper was mounted volatile and may have lost data in a crash"
        remedy = f"use a fresh upper and work, or, if no crash happened since: rm -r {marks}/{incompat.VOLATILE}"
    else:
        problem = f"the upper uses what is not supported here: {', '.join(features)}"
        remedy = "mount it with the kernel's OverlayFS, or use a fresh upper and work"
    raise RefusedError(str(marks), problem, remedy)


# -- against each other and against other mounts ---------------------------------------------------------------------------


def _check_apart(parts: list[_Part]) -> None:
    """No part is another one, or lies inside another one."""
    owners: dict[Key, _Part] = {}
    for part in parts:
        for key in part.location.own:
            other = owners.setdefault(key, part)
            if other is not part:
                raise _same(part, other)
    for part in parts:
        for key in part.location.above:
            if key in owners:
                raise _inside(part, owners[key])


def _same(part: _Part, other: _Part) -> MounterError:
    path = str(part.location.path)
    if part.role == other.role:
        return RefusedError(path, f"given twice as {part.role}", "name each layer once")
    if part.role == "mount point":
        return RefusedError(path, f"is both the mount point and the {other.role}", "mount on a directory of its own")
    return RefusedError(path, f"is both {other.role} and {part.role} ({other.location.path})", "use a directory for each")


def _inside(inner: _Part, outer: _Part) -> MounterError:
    remedy = "mount outside of all layers" if "mount point" in (inner.role, outer.role) else "use directories that lie apart"
    return RefusedError(str(inner.location.path), f"{inner.role} lies inside the {outer.role} {outer.location.path}", remedy)


def check_not_in_overlay(directories: dict[str, Path], mounts: list[Mount]) -> None:
    """Neither directory (by what messages call it) is the upper or work of a kernel OverlayFS that this mount namespace shows.

    Raises:
        RefusedError: one is.
    """
    for mount in mounts:
        if mount.fstype != "overlay":
            continue
        used = [word.partition("=")[2] for word in mount.super_options.split(",") if word.startswith(("upperdir=", "workdir="))]
        for role, path in directories.items():
            # A relative path is relative to whoever mounted it.
            if any(os.path.isabs(other) and _is_same_directory(path, Path(other)) for other in used):
                raise RefusedError(
                    str(path),
                    f"{role} is in use by the kernel's overlay on {mount.mount_point}",
                    "unmount that, or use another directory",
                )


def _is_same_directory(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # not there, or of another mount namespace; a directory that is not there yet is in nobody's use
        return False


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
