"""A union whose writable layer has a size limit that its filesystem keeps, by a project quota (`unionfs.overlay.upper_project`).

The kernel refuses what does not fit, so writes need not come here.  Snapshots are of the same project as the upper: what they
take is put on top of the limit, so that there is as much room after a snapshot as the user has asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from unionfs.filesystem import ExtendedFlags, StatFs
from unionfs.linux.project_quota import FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT
from unionfs.overlay.layer import Stack
from unionfs.overlay.live_merge import LiveMerge
from unionfs.overlay.live_rollback import LiveRollback
from unionfs.overlay.live_snapshot import LiveSnapshot, Taken
from unionfs.overlay.options import Options
from unionfs.overlay.size_limit import count
from unionfs.overlay.tree import Tree
from unionfs.overlay.union import Union
from unionfs.overlay.upper_project import UpperProject


class QuotaLimit:
    """The limit of the upper of one union.

    Attributes:
        size: bytes that the upper may take.
        held: bytes that the snapshots of the upper take.
    """

    def __init__(self, project: UpperProject, size: int) -> None:
        """Set it.  Errors as `settle`."""
        self._project = project
        self.size = size
        self.held = 0
        self._counted_at: int | None = -1
        self.settle()

    @contextlib.contextmanager
    def allowed(self, more: int) -> Iterator[None]:
        """Let the project take so much more than it may, until the next `settle`: what is about to be made is no part of the
        upper.  If that does not even begin, all is as before."""
        self._project.limit(self.size + self.held + more)
        self._counted_at = -1
        try:
            yield
        except BaseException:
            self.settle()
            raise

    def settle(self) -> None:
        """Look what the snapshots take, if any was made or removed since that was done, and let the limit hold.

        Counted, not asked of the quota: XFS gives the blocks of a removed file back a moment later (its ``inodegc``).

        Raises:
            OSError: a snapshot cannot be read; as `unionfs.linux.project_quota.set_limit`.
        """
        changed_at = self._snapshots_changed_at()
        if changed_at != self._counted_at:
            self.held = 0 if changed_at is None else _taken_below(self._project.snapshots)
            self._counted_at = changed_at
        self._project.limit(self.size + self.held)

    def refresh(self) -> None:
        """`settle` where snapshots were made or removed by others."""
        if self._snapshots_changed_at() != self._counted_at:
            self.settle()

    def _snapshots_changed_at(self) -> int | None:
        try:
            return self._project.snapshots.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    @property
    def used(self) -> int:
        """Bytes that the upper takes, with its work directory and what is open though it has no name any more."""
        return max(self._project.usage().used - self.held, 0)

    @property
    def project_id(self) -> int:
        """Whose limit it is, for repquota(8) and xfs_quota(8)."""
        return self._project.id

    def shown(self) -> StatFs:
        """The limit as a filesystem of that size; never more than the real one has."""
        real = os.fstatvfs(self._project.fd)
        block = real.f_frsize
        total = min(-(-self.size // block), real.f_blocks)
        room = min(max(self.size - self.used, 0) // block, total)
        free, available = min(room, real.f_bfree), min(room, real.f_bavail)
        return StatFs(total, free, available, real.f_files, real.f_ffree, real.f_bsize, real.f_namemax, block)


def _taken_below(directory: Path) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return count([fd])
    finally:
        os.close(fd)


class _Snapshot(LiveSnapshot):
    """A snapshot under a limit."""

    def __init__(self, tree: Tree, name: str | None, limit: QuotaLimit, *, sync: bool) -> None:
        self._limit = limit
        super().__init__(tree, name, sync=sync)

    def take(self) -> Taken:
        try:
            return super().take()
        finally:
            self._limit.settle()

    def discard(self) -> None:
        super().discard()
        self._limit.settle()


class QuotaUnion(Union):
    """A writable `Union` with a limit."""

    def __init__(
        self, stack: Stack, options: Options, project: UpperProject, size: int, *, pool_limit: int | None = None
    ) -> None:
        """``size``: bytes that the upper may take, which has ``project``; besides that as `Union`.

        Raises:
            OSError: as `Union`; the limit cannot be set.
        """
        super().__init__(stack, options, pool_limit=pool_limit)
        try:
            self._limit = QuotaLimit(project, size)
        except OSError:
            self.close()
            raise

    # -- snapshots ------------------------------------------------------------------------------------------------------------

    def prepare_snapshot(self, name: str | None) -> LiveSnapshot:
        # It has copies of files that are being written, which may be all that the upper has.
        with self._limit.allowed(self._limit.used):
            return _Snapshot(self._tree, name, self._limit, sync=self._syncs)

    # These two end in several ways, and remove things for a while after that: the limit is settled when somebody next looks.

    def prepare_rollback(self, name: str, keeps: bool) -> LiveRollback:
        with self._limit.allowed(self._limit.used):
            return super().prepare_rollback(name, keeps)

    def prepare_merge(self, numbers: Sequence[int]) -> LiveMerge:
        with self._limit.allowed(self._limit.held):
            return super().prepare_merge(numbers)

    # -- what would lead out of the project -----------------------------------------------------------------------------------

    def set_flags(self, node: int, flags: int) -> None:
        before = self.get_flags(node)
        if before & ~flags & FS_PROJINHERIT_FL:
            raise _not_permitted()
        # A file of a lower layer gets the project when it is copied up, in the midst of this.
        inode = self._copy_up.copy_up(self._nodes.get(node))
        super().set_flags(node, flags | self._flags.get(inode) & FS_PROJINHERIT_FL)

    def set_extended_flags(self, node: int, flags: ExtendedFlags) -> None:
        before = self.get_extended_flags(node)
        if flags.projid != before.projid or before.xflags & ~flags.xflags & FS_XFLAG_PROJINHERIT:
            raise _not_permitted()
        own = self._flags.get_extended(self._copy_up.copy_up(self._nodes.get(node)))
        kept = flags.xflags | own.xflags & FS_XFLAG_PROJINHERIT
        super().set_extended_flags(node, flags._replace(xflags=kept, projid=own.projid))

    # -- the whole ------------------------------------------------------------------------------------------------------------

    def statfs(self) -> StatFs:
        self._limit.refresh()
        return self._limit.shown()

    def statistics(self) -> dict[str, int]:
        limit = self._limit
        limit.refresh()
        own = {"size_limit": limit.size, "size_used": limit.used, "size_project": limit.project_id}
        return {**super().statistics(), **own}


def _not_permitted() -> OSError:
    return OSError(errno.EPERM, "the project of a file is what its size limit goes by")
