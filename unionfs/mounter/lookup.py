"""Finding the mount that a user means by a path."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.linux.mountinfo import Mount, read_mountinfo
from unionfs.mounter.errors import DaemonError, NotMountedError
from unionfs.mounter.registry import FSTYPE, RegisteredMount, State, registered_mounts


def resolve_mountpoint(given: Path) -> Path:
    """``given`` absolute and without symbolic links.

    Not by resolving all of it: of a mount whose server hangs not even the root may be looked at, so that comes last, and
    only if nothing is mounted there.
    """
    path = Path(os.path.abspath(given))
    parent_resolved = Path(os.path.realpath(path.parent), path.name)
    if any(mount.mount_point == parent_resolved for mount in read_mountinfo()):
        return parent_resolved
    return Path(os.path.realpath(path))


def mounted_union(given: Path) -> tuple[Path, Mount]:
    """The mount point that ``given`` means, and the union mounted there (registered or not).

    Raises:
        NotMountedError: nothing is mounted there, or it is not a union.
    """
    mountpoint = resolve_mountpoint(given)
    covering = [mount for mount in read_mountinfo() if mount.mount_point == mountpoint]
    if not covering:
        raise NotMountedError(str(given), "not mounted", "unionfs ls shows what is")
    # A later mount covers an earlier one.
    if covering[-1].fstype != FSTYPE:
        raise NotMountedError(
            str(given), f"not a union, but a mount of type {covering[-1].fstype}", "unionfs ls shows the unions"
        )
    return mountpoint, covering[-1]


def registered_mount(mount: Mount) -> RegisteredMount | None:
    """The entry of a mount in the registry of this user."""
    for found in registered_mounts():
        is_here = found.state in (State.MOUNTED, State.DEAD) and found.record.mountpoint == str(mount.mount_point)
        if is_here and found.record.device == mount.device:
            return found
    return None


def known_mount(given: Path) -> RegisteredMount:
    """The mount on ``given``, whether its daemon is alive or dead.

    Raises:
        NotMountedError: there is none, or it is another user's.
    """
    _, mount = mounted_union(given)
    return _known(registered_mount(mount), given)


def living_mount(given: Path) -> RegisteredMount:
    """The mount on ``given``, whose daemon can be asked.

    Raises:
        NotMountedError: there is none, or it is another user's.
        DaemonError: its daemon is dead.
    """
    return _living(known_mount(given), given)


def living_mount_around(given: Path) -> tuple[RegisteredMount, bytes]:
    """The mount that ``given`` lies in, and where: its path from the root of the union, ``b""`` for the root itself.

    Symbolic links on the way are followed, the last name is not: it may itself be one, and need not exist.

    Raises:
        NotMountedError, DaemonError: as `living_mount`.
    """
    absolute = Path(os.path.abspath(given))
    path = Path(os.path.realpath(absolute.parent), absolute.name)
    mount = _mount_of(path)
    if mount is None:
        # Perhaps the last name is a link to the root of a union, or into one.
        path = Path(os.path.realpath(absolute))
        mount = _mount_of(path)
    if mount is None:
        raise NotMountedError(str(given), "not in a mounted union", "unionfs ls shows where they are mounted")
    found = _living(_known(registered_mount(mount), given), given)
    relative = path.relative_to(mount.mount_point)
    return found, b"" if relative == Path() else os.fsencode(relative)


def _mount_of(path: Path) -> Mount | None:
    """The union that ``path`` lies in, unless something else is mounted between the two."""
    above = [mount for mount in read_mountinfo() if path.is_relative_to(mount.mount_point)]
    # The deepest mount point counts, and of several mounts on one directory the last.
    deepest = max(reversed(above), key=lambda mount: len(mount.mount_point.parts), default=None)
    return deepest if deepest is not None and deepest.fstype == FSTYPE else None


def _known(found: RegisteredMount | None, given: Path) -> RegisteredMount:
    if found is None:
        raise NotMountedError(str(given), "a union, but not registered here", "ask as the user who mounted it")
    return found


def _living(found: RegisteredMount, given: Path) -> RegisteredMount:
    if found.state is State.DEAD:
        raise DaemonError(str(given), "the daemon of the union is dead", f"clean up with: {found.remedy}")
    return found
