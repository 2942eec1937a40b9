"""A union in use shows again what it did when a snapshot was taken: its upper is replaced by an empty one over that snapshot.

On disk it is the step of `unionfs.overlay.live_snapshot` with another list of snapshots.  What was the upper becomes a snapshot,
or goes.  In memory it is a change of layers (`unionfs.overlay.layers_change`): a name that leads to another real object from then
on leads to another inode, so whatever is open stays what it was.

* A file of the old upper that the kernel may write to by itself goes on as one without a name: the file itself, since nobody can
  take the descriptor away.  A copy stays in the snapshot that the old upper becomes.
* All else that is in use goes on as a lower object without a name; a write copies it up first, to a file without a name.
* If the old upper is to be discarded, all of it that is in use goes on by itself, as if it had been removed.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from unionfs.filesystem import Notice, StaleAttributes
from unionfs.overlay import kinds
from unionfs.overlay.beforehand import Beforehand
from unionfs.overlay.carried import Carried
from unionfs.overlay.detached_layers import DetachedLayers, layers_of
from unionfs.overlay.index_names import link_all_names
from unionfs.overlay.inode import Directory, Inode, ctime_mark
from unionfs.overlay.layer import Layer, RealDir, open_lower, waited_for
from unionfs.overlay.layers_change import InTheWay, LayersChange, place_of
from unionfs.overlay.live_snapshot import abandon_copy_ups, refusal
from unionfs.overlay.new_upper import NewUpper
from unionfs.overlay.snapshot_origins import numbered
from unionfs.overlay.snapshots import Snapshot, Snapshots
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")

_OPEN_ORPHAN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class RolledBack(NamedTuple):
    """What came of it: the snapshot that the upper became (None: it is discarded; then ``rubbish`` is to be removed, by whoever
    has the time), and what the kernel must be told."""

    kept: Snapshot | None
    rubbish: Path | None
    notices: list[Notice]


class LiveRollback:
    """One rollback in the making: `take` it, or `discard` it."""

    def __init__(self, tree: Tree, text: str, detached: DetachedLayers, *, keeps: bool, sync: bool) -> None:
        """
        Args:
            text: number or name of the snapshot.
            detached: gets the layers that are no longer part of the union, but in use.
            keeps: what there is now becomes a snapshot.
            sync: it shall outlive a power cut.

        Raises:
            OSError: EINVAL: impossible for this union (`refusal`); ENOENT: there is no such snapshot, or one below it is gone;
                others as `Snapshots.stage`.
        """
        problem = refusal(tree)
        if problem is not None:
            raise OSError(errno.EINVAL, problem)
        self._tree = tree
        self._detached = detached
        self._keeps = keeps
        self._sync = sync
        self._old = tree.upper_layer
        self.snapshots = Snapshots(self._old.path, tree.xattrs)
        self._target = self.snapshots.find(text)
        self._opened: list[Layer] = []
        others = [layer for layer in tree.lowers if not layer.is_snapshot]
        self.staged = self.snapshots.stage(None, [layer.path for layer in others])
        self._beforehand = Beforehand(self.staged.copies, sync)
        try:
            self.snapshots.start_over(self.staged, self._target)
            self._lowers = [*self._open_chain(), *others]
        except BaseException:
            self.discard()
            raise

    def _open_chain(self) -> Iterator[Layer]:
        present = {layer.path: layer for layer in self._tree.lowers if layer.is_snapshot}
        for path in self.snapshots.layers((self._target.number, *self._target.below)):
            layer = present.get(path)
            if layer is None:
                layer = open_lower(0, path)
                layer.is_snapshot = True
                self._opened.append(layer)
            yield layer

    @property
    def new_upper(self) -> Path:
        """Where the new upper is until the exchange, for whoever wants to lock it before."""
        return self.staged.upper

    def discard(self) -> None:
        """It shall not be."""
        for layer in self._opened:
            layer.close()
        self.staged.discard()

    def look(self) -> LayersChange:
        """What would be in the way if nothing in use could go on; only to be looked at, and to be discarded.

        Raises:
            OSError: a layer cannot be read.
        """
        upper = NewUpper(self._tree, self.staged)
        try:
            return _Change(self._tree, self._lowers, upper)
        finally:
            upper.close()

    def copy_beforehand(self) -> Callable[[], None] | None:
        """See `unionfs.overlay.live_snapshot.LiveSnapshot.copy_beforehand`."""
        return self._beforehand.work(self._tree) if self._keeps else None

    def take(self, check: Callable[[list[str]], None], *, force: bool) -> RolledBack:
        """Carry it out.

        Args:
            check: called with the known names that will lead elsewhere; may raise OSError.
            force: also if something is open for writing that then loses its name.

        Raises:
            OSError: nothing has changed, and it is discarded.  EBUSY: something is open for writing.
        """
        tree = self._tree
        frozen: Layer | None = None
        upper: NewUpper | None = None
        change: _Change | None = None
        try:
            abandon_copy_ups(tree)
            if self._keeps:
                if tree.index is not None and len(tree.index):
                    with waited_for(tree.lowers):
                        link_all_names(tree, tree.index)
                frozen = open_lower(0, self._old.path)
            upper = NewUpper(tree, self.staged)
            upper.make_index(self._lowers)
            change = _Change(tree, self._lowers, upper)
            check(change.lost_paths)
            if not force:
                change.refuse_writers()
            carried = None
            if self._keeps:
                carried = Carried(tree, self.staged, self._beforehand)
                carried.copy()
            change.prepare(carried)
            self.staged.exchange(carried is None or carried.is_consistent, self._sync, keeps=self._keeps)
        except BaseException:
            if change is not None:
                change.discard()
            for layer in (frozen, upper):
                if layer is not None:
                    layer.close()
            self.discard()
            raise
        return self._change(change, frozen, upper)

    def _change(self, change: _Change, frozen: Layer | None, upper: NewUpper) -> RolledBack:
        """After the exchange: memory, then the rest on disk."""
        self._old.path = self.staged.final_layer
        notices = change.take_place(frozen, self._detached)
        rubbish = None
        try:
            upper.put_index_in_place()
            if self._keeps:
                self.staged.finish()
            else:
                rubbish = self.staged.set_aside()
        except OSError as error:
            # The next mount will do it.
            _log.error("the rollback of %s is made, but could not be finished: %s", self.snapshots.upper, error)
        kept = self.snapshots.get(self.staged.number) if self._keeps else None
        return RolledBack(kept, rubbish, notices)


class _Change(LayersChange):
    """The change in memory."""

    def __init__(self, tree: Tree, lowers: list[Layer], upper: NewUpper) -> None:
        self._old = tree.upper_layer
        self._upper = upper
        self._orphans: dict[Inode, int] = {}
        self._frozen: dict[Inode, tuple[RealDir, bytes, int]] = {}
        self._directories: list[Directory] = []
        base = copy.copy(tree)
        base.upper, base.index = upper.layer, upper.index
        super().__init__(tree, lowers, base=base)

    def _goes_on(self, known: Inode, seen: Inode) -> bool:
        if isinstance(known, Directory) and isinstance(seen, Directory):
            return known.ino == seen.ino or _has_number_of_one(known, seen)
        # Nothing but the same real object: what is open must stay what it was.
        return not known.is_upper and place_of(known) == place_of(seen) and super()._goes_on(known, seen)

    def _find_in_the_way(self) -> Iterator[InTheWay]:
        kept = {known for known, *_ in self._kept}
        seen: set[Inode] = set()
        for entry in super()._find_in_the_way():
            if entry.inode not in kept and entry.names and entry.inode not in seen:
                seen.add(entry.inode)
                yield entry

    def refuse_writers(self) -> None:
        """EBUSY if anything that loses its name is open for writing."""
        for entry in self.in_the_way:
            if entry.inode.kind == kinds.REG and entry.inode.is_upper and entry.inode.node in self._tree.nodes.written:
                raise OSError(errno.EBUSY, f"{entry.path} is open for writing")

    def prepare(self, carried: Carried | None) -> None:
        """Open, and work out, what will be needed of the old upper.  ``carried``: the files of which a copy stays in it; None: it
        will be gone.

        Raises:
            OSError: EMFILE and the like.
        """
        written = None if carried is None else {file.inode for file in carried.files}
        names = {lost.inode for lost in self._lost}
        for inode in self._tree.nodes:
            if inode not in names or not inode.is_upper or inode.orphan_fd >= 0 or not inode.is_held:
                continue
            if written is None or inode in written:
                self._orphans[inode] = os.open(self._tree.path(inode), _OPEN_ORPHAN)
            elif isinstance(inode, Directory):
                self._directories.append(inode)
            else:
                place, name = inode.place, inode.place_name
                if inode.is_indexed:
                    parent, name = inode.names[0]
                    assert parent.upper is not None
                    place = parent.upper
                self._frozen[inode] = place, name, ctime_mark(self._tree.stat(inode))

    def discard(self) -> None:
        super().discard()
        for fd in self._orphans.values():
            os.close(fd)
        self._orphans.clear()

    def take_place(self, frozen: Layer | None, detached: DetachedLayers) -> list[Notice]:
        """Carry it out; what the kernel must be told.  ``frozen``: the old upper, opened as a lower layer; None: it goes."""
        tree, old = self._tree, self._old
        old_index = tree.index
        gone = self._leaving | {old}
        self.in_the_way = []
        self._detached = detached
        told = [lost.inode for lost in self._lost if lost.inode.is_held]
        notices = self.apply()
        for inode in tree.nodes:
            if not inode.names and inode is not tree.root and (inode.is_indexed or layers_of(inode) & gone):
                self._forget_links(inode)
        self._detach_objects()
        if frozen is not None:
            old.freeze(frozen)
            frozen.close()
        if old_index is not None:
            old_index.close()
        tree.upper = self._upper.layer
        detached.add(old)
        detached.close_unused(tree)
        return notices + [StaleAttributes(inode.node) for inode in told if inode.nlookup > 0]

    def _let_layers_go(self) -> None:
        for layer in self._leaving:
            self._detached.add(layer)

    def _forget_links(self, inode: Inode) -> None:
        """No name that is found from now on leads to it."""
        nodes = self._tree.nodes
        if inode.hard_link_ino:
            nodes.hard_links.pop(inode.hard_link_ino, None)
            inode.hard_link_ino = 0
        if inode.links is not None:
            nodes.lower_links.pop(inode.links.key, None)
            inode.links = None

    def _detach_objects(self) -> None:
        for inode, fd in self._orphans.items():
            inode.carried = inode.carried or self._old.generation
            inode.orphan_fd = fd
        for inode, (place, name, mark) in self._frozen.items():
            inode.place, inode.place_name = place, name
            inode.lower_ctime, inode.has_origin, inode.redirect = mark, False, b""
        for directory in self._directories:
            upper, directory.upper = directory.upper, None
            assert upper is not None
            directory.lowers = (upper, *directory.lowers)
        self._orphans.clear()


def _has_number_of_one(known: Directory, seen: Directory) -> bool:
    """Whether the number of both is that of one real directory, which may show another one since a merge of snapshots."""
    if not known.lowers or not seen.lowers:
        return False
    one, other = numbered(known.lowers), numbered(seen.lowers)
    return (one.layer, one.names()) == (other.layer, other.names())
