"""Copies of the files that a snapshot carries on, made beforehand, while requests are answered.

What has changed then is brought up to date in the moment of the snapshot, in which nobody is answered
(`unionfs.overlay.carried`): by then most files are as they were, and of the others the most part; that is on the disk already.

Whether a file has changed its ctime tells, if two things are heeded.  A mapped page that is dirty can be written again without
moving it; so the file is written out before, which makes the next write a fault that does.  And before Linux 6.13 two changes
within one tick of the clock have the same ctime; so one that is not older than a few ticks tells nothing.  In a filesystem in
memory a write through a mapping never moves it, and nothing is believed there.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unionfs.overlay import kinds
from unionfs.overlay.data_copy import Reflinks, copy_data
from unionfs.overlay.data_update import update_data
from unionfs.overlay.inode import Inode
from unionfs.overlay.real_file import READ, open_own
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")

_SMALL = 128 << 10
"""Bytes that are copied in less time than a request takes to be answered."""
_MOST_FILES = 256
"""That are open at a time."""
_ROUNDS = 4
_TICKS_NS = 50_000_000
"""Longer than a few ticks of the coarsest clock (CONFIG_HZ=100)."""

State = tuple[int, int, int]
"""What moves when a file changes: size, mtime, ctime."""


class Prepared(NamedTuple):
    """A copy that is as the file was; ``state``: of the file then, None: it cannot tell of a change."""

    path: Path
    state: State | None


class Beforehand:
    """The copies made for one snapshot."""

    def __init__(self, directory: Path, sync: bool) -> None:
        """``directory``: where they are made.  ``sync``: they are written out."""
        self._directory = directory
        self._sync = sync
        self._prepared: dict[tuple[int, int], Prepared] = {}

    def work(self, tree: Tree) -> Callable[[], None] | None:
        """See `unionfs.overlay.live_snapshot.LiveSnapshot.copy_beforehand`."""
        tells = tree.upper_is_durable
        sources: list[int] = []
        for inode in tree.nodes:
            if len(sources) < _MOST_FILES and may_be_written(tree, inode) and tree.stat(inode).st_size > _SMALL:
                sources.append(open_own(tree, inode, READ))
        return (lambda: self._copy(sources, tells)) if sources else None

    def take(self, st: os.stat_result) -> Prepared | None:
        """The copy of the file whose attributes are ``st``, which is the caller's from now on; None if there is none."""
        return self._prepared.pop((st.st_dev, st.st_ino), None)

    def _copy(self, sources: list[int], tells: bool) -> None:
        reflinks = Reflinks()
        try:
            for _ in range(_ROUNDS):
                changed = [number for number, fd in enumerate(sources) if self._is_old(fd)]
                if not changed:
                    break
                for number in changed:
                    if not self._copy_one(number, sources[number], reflinks, tells):
                        return
        finally:
            for fd in sources:
                os.close(fd)

    def _is_old(self, fd: int) -> bool:
        st = os.fstat(fd)
        prepared = self._prepared.get((st.st_dev, st.st_ino))
        return prepared is None or (prepared.state is not None and prepared.state != state_of(st))

    def _copy_one(self, number: int, source: int, reflinks: Reflinks, tells: bool) -> bool:
        """Copy one; false if there is no need to, since blocks can be shared: then the copies are made in no time when they must
        be."""
        path = self._directory / f"before-{number}"
        if self._sync or tells:
            os.fdatasync(source)
        st, now = os.fstat(source), time.time_ns()
        try:
            target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if reflinks.clone(source, target, st.st_dev):
                    path.unlink()
                    return False
                (update_data if (st.st_dev, st.st_ino) in self._prepared else copy_data)(source, target, st.st_size, reflinks)
                if self._sync:
                    os.fsync(target)
            finally:
                os.close(target)
        except OSError as error:
            # Full, or somebody made it shorter: the snapshot itself will see, and say, what becomes of it.
            _log.info("%s was not copied before the snapshot: %s", os.readlink(f"/proc/self/fd/{source}"), error)
            self._prepared.pop((st.st_dev, st.st_ino), None)
            path.unlink(missing_ok=True)
            return True
        is_certain = tells and st.st_ctime_ns < now - _TICKS_NS
        self._prepared[st.st_dev, st.st_ino] = Prepared(path, state_of(st) if is_certain else None)
        return True


def state_of(st: os.stat_result) -> State:
    """See `State`."""
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns


def may_be_written(tree: Tree, inode: Inode) -> bool:
    """Whether the kernel may write to the real file of ``inode``, one of the upper, without asking."""
    if inode.kind != kinds.REG or not inode.is_upper:
        return False
    if inode.orphan_fd >= 0:
        return True
    # Of a metadata-only copy the kernel has the file open where its data is, in a lower layer.
    return inode.pins > 0 and inode.node in tree.nodes.written and inode.data is None
