"""Who keeps the size limit of an upper: its filesystem, by a project quota, where it has these; else the daemon, by counting."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
from collections.abc import Iterator

from unionfs.linux.capabilities import CAP_SYS_RESOURCE
from unionfs.linux.capset import renounce
from unionfs.mounter.errors import RefusedError
from unionfs.mounter.request import MountRequest, may_administer
from unionfs.overlay import LimitedUnion, Stack, Union
from unionfs.overlay.quota_union import QuotaUnion
from unionfs.overlay.upper_project import UpperProject, claim, found

_log = logging.getLogger("unionfs.mounter")


@contextlib.contextmanager
def upper_project(checked: MountRequest) -> Iterator[UpperProject | None]:
    """The project of an upper that is about to be mounted, and is locked, with its work directory in it; given to it now if it is
    to have a limit that its filesystem can keep, or from an earlier mount.  None: it has none.

    What is given stays: all that is in the upper has it.  There is no limit until the union sets one.

    Raises:
        RefusedError: the work directory cannot be given the project.
        OSError: what the filesystem says.
    """
    if checked.upper is None or checked.work is None or checked.read_only:
        yield None
        return
    project = found(checked.upper)
    if project is None and checked.size is not None and may_administer():
        project = claim(checked.upper, checked.work)
    if project is None:
        yield None
        return
    with contextlib.closing(project):
        if _is_kept(project):
            # That of an earlier mount: a full upper leaves no room for what a mount makes.
            project.limit(0)
        try:
            project.join(checked.work)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL):
                raise
            problem = "cannot be given the project of the upper (a size limit), without which nothing can be moved between them"
            raise RefusedError(str(checked.work), problem, "mount as root, or use a fresh upper") from error
        with project.place_for_snapshots():
            yield project


def _is_kept(project: UpperProject) -> bool:
    """Whether a limit can be set, and holds."""
    return may_administer() and project.is_limited


def settled(checked: MountRequest, project: UpperProject | None) -> tuple[MountRequest, UpperProject | None]:
    """``checked`` with what it costs if the daemon has to count, and the project if that is to have the limit.

    Raises:
        RefusedError: the daemon has to count what it would not see.
    """
    if checked.size is None:
        return checked, None
    if project is not None and _is_kept(project):
        return checked, project
    if checked.data_path == "passthrough":
        problem = "not possible with size here: what is written would go past the daemon, which has to count it"
        raise RefusedError("data_path=passthrough", problem, "leave one of the two out, or use an upper with project quotas")
    return dataclasses.replace(checked, data_path="cached"), None


def open_union(stack: Stack, request: MountRequest, project: UpperProject | None) -> Union:
    """The union, with its limit if it has one.  ``project``: as `settled` has it.

    Raises:
        OSError: a layer cannot be opened, or the limit cannot be set.
    """
    if request.size is None:
        return Union(stack, request.union)
    if project is None:
        return LimitedUnion(stack, request.union, request.size)
    union = QuotaUnion(stack, request.union, project, request.size)
    # Whoever has it may exceed limits of ext4 (fs/quota/dquot.c, ignore_hardlimit); so would all that the kernel writes for us.
    renounce(CAP_SYS_RESOURCE)
    _log.info("size limit: quota: project %d of %s", project.id, stack.upper)
    return union
