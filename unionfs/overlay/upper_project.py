"""The project of a writable layer: one ID of project quotas that its upper, its work directory and its snapshots share.

They must share it, since rename(2) and link(2) into a directory that hands its project down refuse what has another one (EXDEV).
Directories hand it down, so only the roots are given it here; and they are given it while they are empty, because symbolic links
and special files cannot be given another one later (before Linux 6.17).

Our IDs come from a range of their own, `IDS`: so it shows without any further mark that a directory has one of ours, and none of
an administrator (/etc/projid), of Docker or podman (both count up from small numbers) or Kubernetes (from 1048577) is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from unionfs.linux.project_quota import Project, Usage, get_project, get_usage, has_project_quota, set_limit, set_project

IDS = range(0x55000000, 0x56000000)

_ATTEMPTS = 64
_STEP = 0x9E3779B1
"""Odd, so that the attempts of one inode number, and the first ones of neighbours, are spread over all `IDS`."""

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_PROJECTS = (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_NONE = Project(0, inherits=False)
_MADE_IN_WORK = ("work", "index")


class UpperProject:
    """The project of one upper; whoever has it has locked that (`unionfs.mounter.locks`), and calls `close`."""

    def __init__(self, upper: Path, project: int) -> None:
        """``upper`` has that project.

        Raises:
            OSError: the directory that it lies in cannot be opened.
        """
        self.id = project
        self.snapshots = _snapshots_of(upper)
        self.fd = os.open(upper.parent, _OPEN_DIR)
        """The directory that the upper lies in: without the project, so that statvfs(3) shows the whole filesystem."""

    def close(self) -> None:
        """No use of it any more."""
        os.close(self.fd)

    @property
    def is_limited(self) -> bool:
        """Whether the filesystem keeps limits at present."""
        return has_project_quota(self.fd)

    def usage(self) -> Usage:
        """What upper, work directory and snapshots take.  Errors as `unionfs.linux.project_quota.get_usage`."""
        return get_usage(self.fd, self.id)

    def limit(self, size: int) -> None:
        """See `unionfs.linux.project_quota.set_limit`."""
        set_limit(self.fd, self.id, size)

    def join(self, work: Path) -> None:
        """Give it to the work directory, and to what OverlayFS keeps in that.

        Raises:
            OSError: EINVAL, EPERM: this process may not.
        """
        for directory in (work, *(work / name for name in _MADE_IN_WORK)):
            with contextlib.suppress(FileNotFoundError):
                _give(directory, self.id)

    @contextlib.contextmanager
    def place_for_snapshots(self) -> Iterator[None]:
        """A directory of snapshots (`unionfs.overlay.snapshots`) with the project; removed at the end if it is empty then."""
        self.snapshots.mkdir(mode=0o700, exist_ok=True)
        _give(self.snapshots, self.id)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # ENOTEMPTY: there are snapshots
                self.snapshots.rmdir()


def found(upper: Path) -> UpperProject | None:
    """The project of ours that an upper has been given; None if it has none."""
    try:
        own, above = _project_of(upper), _project_of(upper.parent)
    except OSError as error:
        if error.errno in (*_NO_PROJECTS, errno.EACCES):
            return None
        raise
    # What lies in a limited upper has that one's project by descent.
    if own.id in IDS and own.inherits and own.id != above.id:
        return UpperProject(upper, own.id)
    return None


def claim(upper: Path, work: Path) -> UpperProject | None:
    """Give an upper a project that nothing else on its filesystem has; None where it cannot have one, and nothing has changed:
    no project quotas are kept there; upper or work directory have something in them, or the upper has snapshots; or they lie in a
    project of somebody else's.

    Raises:
        OSError: what the filesystem says; EPERM as `unionfs.linux.project_quota.get_usage`.
    """
    if os.listdir(upper) or not _is_unused(work) or _holds_something(_snapshots_of(upper)):
        return None
    fd = os.open(upper, _OPEN_DIR)
    try:
        if not has_project_quota(fd):
            return None
        # A snapshot could not be put in the place of an upper whose parent hands another project down.
        if get_project(fd) != _NONE or _project_of(upper.parent).inherits:
            return None
        project = _claim_id(fd)
    finally:
        os.close(fd)
    return None if project is None else UpperProject(upper, project)


def _claim_id(fd: int) -> int | None:
    """The filesystem itself knows which IDs are in use: those that an inode counts for.  Of two who take the same one at a time
    at least one sees two inodes, and looks on."""
    inode = os.fstat(fd).st_ino
    for attempt in range(_ATTEMPTS):
        project = IDS[(inode + attempt) * _STEP % len(IDS)]
        if get_usage(fd, project).inodes:
            continue
        set_project(fd, Project(project, inherits=True))
        if get_usage(fd, project).inodes == 1:
            return project
        set_project(fd, _NONE)
    return None


def _snapshots_of(upper: Path) -> Path:
    return upper.with_name(f".{upper.name}.snapshots")


def _holds_something(directory: Path) -> bool:
    return directory.exists() and bool(os.listdir(directory))


def _is_unused(work: Path) -> bool:
    names = os.listdir(work)
    return set(names) <= set(_MADE_IN_WORK) and not any(os.listdir(work / name) for name in names)


def _project_of(directory: Path) -> Project:
    fd = os.open(directory, _OPEN_DIR)
    try:
        return get_project(fd)
    finally:
        os.close(fd)


def _give(directory: Path, project: int) -> None:
    fd = os.open(directory, _OPEN_DIR)
    try:
        wanted = Project(project, inherits=True)
        if get_project(fd) != wanted:
            set_project(fd, wanted)
    finally:
        os.close(fd)
