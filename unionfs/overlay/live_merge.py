"""Several snapshots below a union in use become one layer; nothing that is seen changes.

The layer is made beside them while requests are answered (`unionfs.overlay.merge_layers`), without the files that it has in
common with them.  Those are linked into it, and removed from the old layers, in one moment in which nobody is answered: a file
that two layers have would be shown with one link too many, and would be taken for one with several names when it is copied up.

In memory it is a change of layers (`unionfs.overlay.layers_change`) that must not lose a name.  What is open and has no name goes
on by a link of its own, in a directory that holds nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from unionfs.filesystem import Notice
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.detached_layers import DetachedLayers, layers_of
from unionfs.overlay.inode import Directory, Inode, ctime_mark
from unionfs.overlay.layer import Layer, RealDir, open_lower
from unionfs.overlay.layers_change import InTheWay, LayersChange
from unionfs.overlay.live_snapshot import refusal
from unionfs.overlay.merge_layers import Merged, prepare_merge
from unionfs.overlay.metadata_copy import copy_metadata
from unionfs.overlay.snapshots import Snapshots
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


class LiveMerge:
    """One merge in the making: `prepare` it, then `take` it, or `discard` it."""

    def __init__(self, tree: Tree, numbers: Sequence[int], detached: DetachedLayers, *, sync: bool) -> None:
        """
        Args:
            numbers: the snapshots, the topmost first; each is the next below the one before.
            detached: gets what is no longer part of the union, but in use.
            sync: it shall outlive a power cut.

        Raises:
            OSError: EINVAL: impossible for this union; EBUSY: a layer was added between them, or files are open in one that a
                rollback left.
        """
        problem = refusal(tree)
        if problem is not None:
            raise OSError(errno.EINVAL, problem)
        self._tree = tree
        self._numbers = numbers
        self._detached = detached
        self._sync = sync
        self.snapshots = Snapshots(tree.upper_layer.path, tree.xattrs)
        paths = self.snapshots.layers(numbers)
        present = [layer.path for layer in tree.lowers]
        self._first = present.index(paths[0]) if paths[0] in present else -1
        self._count = len(paths)
        if self._first >= 0 and tuple(present[self._first : self._first + self._count]) != paths:
            raise OSError(errno.EBUSY, "a layer was added between them: remove that first")
        detached.refuse_in_use(tree, paths)
        self._lowers = [layer.path for layer in tree.lowers if not layer.is_snapshot]
        self._merged: Merged | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the union shows these snapshots; if not, `take` has nothing to do but what is to be done on disk."""
        return self._first >= 0

    def prepare(self) -> None:
        """Make the layer; in any thread, for it looks at what does not change only.

        Raises:
            OSError: nothing is left of it.
        """
        self._merged = prepare_merge(
            self.snapshots, self._numbers, self._lowers, is_user=self._tree.xattrs.is_user, sync=self._sync
        )

    def discard(self) -> None:
        """It shall not be."""
        if self._merged is not None:
            self._merged.staged.discard()

    def take(self) -> list[Notice]:
        """Let it take their place; what the kernel must be told.

        Raises:
            OSError: nothing has changed, and it is discarded.
        """
        merged = self._merged
        assert merged is not None
        layer: Layer | None = None
        change: _Change | None = None
        try:
            merged.link()
            if self.is_shown:
                layer = open_lower(0, merged.staged.upper)
                layer.is_snapshot = True
                old = self._tree.lowers
                lowers = [*old[: self._first], layer, *old[self._first + self._count :]]
                change = _Change(self._tree, lowers, merged.staged.directory)
                change.keep_numbers_of(merged.left_out)
                change.keep_nameless(self.snapshots.kept_directory(merged.staged.number))
            merged.staged.publish(self._sync)
        except BaseException:
            if change is not None:
                change.discard()
            if layer is not None:
                layer.close()
            self.discard()
            raise
        if layer is not None:
            layer.path = merged.staged.final_layer
        notices = [] if change is None else change.take_place(self._detached)
        try:
            self.snapshots.finish_merge(self.snapshots.get(merged.staged.number))
        except OSError as error:
            # The next mount will do it.  What is shown is the same, whether a layer lies on the old ones or the new one.
            _log.error("merged snapshot %d is made, but the old ones could not be removed: %s", merged.staged.number, error)
        if change is not None:
            change.settle()
        return notices


class _Change(LayersChange):
    """The change in memory."""

    def __init__(self, tree: Tree, lowers: list[Layer], made: Path) -> None:
        """``made``: where the layer is, for messages."""
        super().__init__(tree, lowers)
        self._nameless: dict[Inode, tuple[RealDir | None, RealDir | None]] = {}
        self._kept_layer: Layer | None = None
        self._kept_directory: Path | None = None
        if self._lost:
            path = self.lost_paths[0]
            self.discard()
            raise OSError(errno.EIO, f"merged they would not show the same: {path}", str(made))

    def _goes_on(self, known: Inode, seen: Inode) -> bool:
        if known.kind != seen.kind or known.is_upper != seen.is_upper:
            return False
        if isinstance(known, Directory) or known.is_upper:
            return True
        # What was in the merged layers has another place now.  No inode number is compared: that of a file which a merged layer
        # changed may have been that of one which now is nowhere.
        is_there = known.place.layer in self._leaving or known.place.layer is seen.place.layer
        return is_there or super()._goes_on(known, seen)

    def _find_in_the_way(self) -> Iterator[InTheWay]:
        return iter(())

    def keep_numbers_of(self, left_out: Collection[int]) -> None:
        """What shows the number of something that will be gone goes on showing it.  Written down at once: another worker could
        not tell."""
        self.keep_numbers()
        tree = self._tree
        shown = {tree.inos.shown(tree.upper_layer.device, ino) for ino in left_out}
        for inode in tree.nodes:
            if inode.ino in shown:
                tree.nodes.numbers.keep(inode)
        tree.journal.flush()

    def keep_nameless(self, directory: Path) -> None:
        """Link what is open without a name into ``directory``.

        Raises:
            OSError: what link(2) gives.
        """
        # What was left behind by a copy-up is read by way of what stands for it.
        nameless = [
            inode
            for inode in self._tree.nodes
            if not inode.names and inode.successor is None and inode is not self._tree.root and layers_of(inode) & self._leaving
        ]
        if not nameless:
            return
        directory.mkdir(mode=0o700)
        self._kept_directory = directory
        self._kept_layer = open_lower(0, directory)
        for inode in nameless:
            if isinstance(inode, Directory):
                empty = directory / f"{inode.node}"
                empty.mkdir(mode=0o700)
                copy_metadata(self._tree, inode, os.fsencode(empty), self._tree.stat(inode))
                self._nameless[inode] = None, None
                continue
            data = inode.data.place if isinstance(inode.data, DataPlace) else None
            if inode.place.layer in self._leaving:
                self._link(inode.place, inode.place_name, directory / f"{inode.node}")
            if data is not None and data.layer in self._leaving:
                assert isinstance(inode.data, DataPlace)
                self._link(data, inode.data.name, directory / f"{inode.node}.data")
            self._nameless[inode] = inode.place, data

    @staticmethod
    def _link(place: RealDir, name: bytes, target: Path) -> None:
        # Through the path of the layer: a link cannot be made across the private mount that the tree reads it by.
        os.link(place.path() / os.fsdecode(name), target, follow_symlinks=False)

    def discard(self) -> None:
        super().discard()
        if self._kept_layer is not None:
            self._kept_layer.close()
        if self._kept_directory is not None:
            shutil.rmtree(self._kept_directory)

    def take_place(self, detached: DetachedLayers) -> list[Notice]:
        """Carry it out; what the kernel must be told."""
        for known, *_ in self._kept:
            if known.pins and not known.carried and layers_of(known) & self._leaving:
                # The kernel has the file open, by whatever name it has in the layers.
                known.carried = _generation(known)
        notices = self.apply()
        nodes = self._tree.nodes
        for inode in nodes:
            if inode.rare is not None and inode.successor is not None:
                successor = nodes.get(inode.node)
                inode.place, inode.place_name = successor.place, successor.place_name
        if self._kept_layer is not None:
            self._move_nameless(self._kept_layer)
            detached.add(self._kept_layer, self._kept_directory)
        detached.close_unused(self._tree)
        return notices

    def _move_nameless(self, layer: Layer) -> None:
        for inode, (place, data) in self._nameless.items():
            name = b"%d" % inode.node
            if isinstance(inode, Directory):
                inode.lowers = (RealDir(layer, layer.root, name),)
                inode.place, inode.place_name = layer.root, name
                continue
            if place is not None and place.layer in self._leaving:
                inode.carried = inode.carried or _generation(inode)
                inode.place, inode.place_name = layer.root, name
            if data is not None and data.layer in self._leaving:
                assert isinstance(inode.data, DataPlace)
                inode.data = inode.data._replace(place=layer.root, name=name + b".data")

    def settle(self) -> None:
        """Links came and went, which moved the ctime of files that nobody has changed: note the new one."""
        for known, *_ in self._kept:
            if not known.is_upper and not isinstance(known, Directory) and known.place.layer.is_snapshot:
                with contextlib.suppress(OSError):
                    known.lower_ctime = ctime_mark(self._tree.stat(known))


def _generation(inode: Inode) -> int:
    return inode.data.place.layer.generation if isinstance(inode.data, DataPlace) else inode.place.layer.generation
