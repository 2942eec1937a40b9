"""A snapshot of a union in use: its upper becomes the topmost lower layer, and an empty directory the new upper.

Nothing that is seen changes, so no inode goes: each keeps its node id and its number, and takes over where its object is from now
on.  All that can fail is done before the one step that counts (`Staged.exchange`); what comes after is memory alone, and the
finishing touches on disk that a later mount would make as well (`Snapshots.recover`).  The whole runs between two requests.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from unionfs.filesystem import Notice, StaleAttributes, StaleName
from unionfs.overlay import kinds
from unionfs.overlay.beforehand import Beforehand
from unionfs.overlay.carried import Carried, path_of
from unionfs.overlay.data_copy import InPlaceCopy
from unionfs.overlay.index import Index
from unionfs.overlay.index_names import link_all_names
from unionfs.overlay.inode import Directory, Inode, LowerLinks, ctime_mark
from unionfs.overlay.layer import Layer, RealDir, open_lower, waited_for
from unionfs.overlay.listing import (
    LowerName,
    RealName,
    directory_places,
    ino_in,
    kind_in,
    lower_ino,
    lower_kind,
    lower_name,
    read_names,
)
from unionfs.overlay.listing import lower_places as places_of
from unionfs.overlay.new_upper import NewUpper
from unionfs.overlay.snapshots import Snapshot, Snapshots, Staged
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


class Taken(NamedTuple):
    """What came of it: the snapshot, whether its files are of one moment, and what the kernel must be told."""

    snapshot: Snapshot
    notices: list[Notice]


class _Moved(NamedTuple):
    """Where an object that is no directory is from now on; ``st`` is of it."""

    inode: Inode
    place: RealDir
    name: bytes
    st: os.stat_result


class _Frozen(NamedTuple):
    """A directory that has an upper part: what that is from now on, and the names in both parts (None: not read yet)."""

    directory: Directory
    above: RealDir | None
    upper_names: dict[bytes, RealName] | None
    lower_names: dict[bytes, LowerName] | None


def is_busy(tree: Tree, copying_ranges: set[object]) -> bool:
    """Whether another thread is writing to the upper by itself, so that a snapshot must wait for a moment."""
    return bool(copying_ranges) or any(
        isinstance(inode.copying, InPlaceCopy) and not inode.copying.done for inode in tree.nodes if inode.rare is not None
    )


def refusal(tree: Tree) -> str | None:
    """Why no snapshot can be taken of a union at all; None if one can."""
    upper = tree.upper
    if upper is None or not upper.is_upper:
        return "the union is read-only, so there is nothing to keep"
    if not tree.whiteouts.has_xattrs:
        return "the filesystem of the upper has no extended attributes, in which the list of snapshots is kept"
    parent = upper.path.parent.stat()
    if parent.st_dev != upper.device or os.path.ismount(upper.path):
        return "the upper is a mount point, so no other directory can take its place: use a directory in it as the upper"
    return None


class LiveSnapshot:
    """One snapshot in the making: `take` it, or `discard` it."""

    def __init__(self, tree: Tree, name: str | None, *, sync: bool) -> None:
        """``name``: what it is to be called; None: by its number.  ``sync``: it shall outlive a power cut.

        Raises:
            OSError: EINVAL: impossible for this union (`refusal`); others as `Snapshots.stage`.
        """
        problem = refusal(tree)
        if problem is not None:
            raise OSError(errno.EINVAL, problem)
        self._tree = tree
        self._sync = sync
        self._old = tree.upper_layer
        self.snapshots = Snapshots(self._old.path, tree.xattrs)
        lowers = [layer.path for layer in tree.lowers if not layer.is_snapshot]
        self._below = self.snapshots.below(self._old.path)
        self.staged: Staged = self.snapshots.stage(name, lowers)
        self._beforehand = Beforehand(self.staged.copies, sync)

    @property
    def new_upper(self) -> Path:
        """Where the new upper is until the exchange, for whoever wants to lock it before."""
        return self.staged.upper

    def discard(self) -> None:
        """It shall not be."""
        self.staged.discard()

    def copy_beforehand(self) -> Callable[[], None] | None:
        """Work for another thread that copies what `take` would have to copy, as far as that does not change afterwards, while
        requests go on being answered; None: there is nothing to copy.  It raises nothing; what it failed at `take` does."""
        return self._beforehand.work(self._tree)

    def take(self) -> Taken:
        """Take it.

        Raises:
            OSError: nothing has changed, and it is discarded.
        """
        tree = self._tree
        frozen: Layer | None = None
        upper: NewUpper | None = None
        try:
            abandon_copy_ups(tree)
            with waited_for(tree.lowers):
                if tree.index is not None and len(tree.index):
                    link_all_names(tree, tree.index)
                carried = Carried(tree, self.staged, self._beforehand)
                carried.link_into_new_upper()
            frozen = open_lower(0, self._old.path)
            upper = NewUpper(tree, self.staged)
            upper.make_index([frozen, *tree.lowers])
            carried.copy()
            switch = _Switch(tree, upper.layer, carried)
            self._keep_numbers(carried, switch)
            self.staged.look_like(self._old.path, tree.xattrs)
            self.staged.exchange(carried.is_consistent, self._sync)
        except BaseException:
            if frozen is not None:
                frozen.close()
            if upper is not None:
                upper.close()
            self.discard()
            raise
        notices = self._change(switch, frozen, upper, carried)
        assert self.staged.about is not None
        # Not read from the disk: what fails from here on must not keep the notices from the kernel.
        return Taken(Snapshot(self.staged.number, self._old.path, self._below, self.staged.about), notices)

    def _keep_numbers(self, carried: Carried, switch: _Switch) -> None:
        """What would show another number when it is looked up: a file of the index that goes on in the new upper is in none
        there, by which its number could be told; and one that went on before shows its own.  Written down at once, for another
        worker."""
        numbers = self._tree.nodes.numbers
        for inode in (*(file.inode for file in carried.files if file.inode.is_indexed), *switch.with_own_numbers()):
            numbers.keep(inode)
        if numbers:
            self._tree.journal.flush()

    def _change(self, switch: _Switch, frozen: Layer, upper: NewUpper, carried: Carried) -> list[Notice]:
        """After the exchange: memory, then the rest on disk."""
        old = self._old
        old.path = self.staged.final_layer
        notices = switch.make(frozen, upper.index)
        try:
            upper.put_index_in_place()
            self.staged.finish()
        except OSError as error:
            # The next mount will do it.
            old.path = self.staged.upper
            _log.error("snapshot %d is taken, but could not be finished: %s", self.staged.number, error)
        notices += [StaleAttributes(file.inode.node) for file in carried.files]
        # Those of the names that an indexed file was given in the upper: no reply comes that they could follow.
        told = [notice for notice in self._tree.notices if isinstance(notice, StaleAttributes)]
        self._tree.notices[:] = [notice for notice in self._tree.notices if not isinstance(notice, StaleAttributes)]
        return notices + told


class _Switch:
    """What changes in memory, worked out before and made after the exchange."""

    def __init__(self, tree: Tree, new: Layer, carried: Carried) -> None:
        self._tree = tree
        self._new = new
        self._old = tree.upper_layer
        self._real = {b"": new.root}
        for path in sorted(carried.directories):
            parent, _, name = path.rpartition(b"/")
            self._real[path] = RealDir(new, self._real[parent], name)
        self._generations = {file.inode: file.inode.carried or self._old.generation for file in carried.files}
        self._carried_names = {file.inode: file.names for file in carried.files}
        self._moved = [moved for inode in tree.nodes if (moved := self._where(inode)) is not None]
        self._copies = carried.inos_of_copies()
        self._directories = [
            self._frozen_directory(inode) for inode in tree.nodes if isinstance(inode, Directory) and self._is_there(inode)
        ]

    def with_own_numbers(self) -> Iterator[Inode]:
        """The files that show their own numbers though they have an origin, which gives it in a frozen layer."""
        shown = self._tree.inos.shown
        return (inode for inode, _, _, st in self._moved if inode.has_origin and inode.ino == shown(st.st_dev, st.st_ino))

    def _is_there(self, directory: Directory) -> bool:
        """Whether a directory has a place in the upper; not if it was removed."""
        return directory.upper is not None and (directory.parent is not None or directory is self._tree.root)

    def _where(self, inode: Inode) -> _Moved | None:
        """Where an upper file is once its layer is frozen; None for what is not in that layer, or has no place in it."""
        if isinstance(inode, Directory) or not inode.is_upper or inode in self._carried_names or inode.orphan_fd >= 0:
            return None
        if inode.rare is not None and inode.successor is not None:
            return None
        place, name = inode.place, inode.place_name
        if inode.is_indexed:
            parent, name = inode.names[0]
            assert parent.upper is not None
            place = parent.upper
        return _Moved(inode, place, name, self._tree.stat(inode))

    def make(self, frozen: Layer, index: Index | None) -> list[Notice]:
        """Carry it out; what the kernel must be told."""
        tree, old, new = self._tree, self._old, self._new
        notices: list[Notice] = []
        # All that is open was opened by way of the upper's mount; the frozen layer is reached through one that forbids writing.
        tree.pool.close()
        for frozen_directory in self._directories:
            notices += self._freeze_directory(frozen_directory)
        old_index = tree.index
        for moved in self._moved:
            notices += self._freeze(moved)
        for inode, names in self._carried_names.items():
            self._carry(inode, names)
        old.freeze(frozen)
        if old_index is not None:
            old_index.close()
        tree.freeze_upper(new, index)
        return notices

    # -- directories ------------------------------------------------------------------------------------------------------

    def _frozen_directory(self, directory: Directory) -> _Frozen:
        path = path_of(directory.parent, directory.name) if directory.parent is not None else b""
        above = self._real.get(path)
        if directory.upper_names is None or directory.lower_names is None:
            # None of its names leads to an inode yet, so they may as well be read when somebody asks.
            return _Frozen(directory, above, None, None)
        inos = self._inos(path, directory)
        lower_names = _merged(directory.upper_names, directory.lower_names, inos)
        upper_names = {} if above is None else read_names(above, self._tree.pool, self._tree.xattrs)
        return _Frozen(directory, above, upper_names, lower_names)

    def _inos(self, path: bytes, directory: Directory) -> dict[bytes, int]:
        """The numbers in the frozen directory that `Directory.upper_names` does not tell."""
        assert directory.upper is not None
        fd = self._tree.dir_fd(directory.upper)
        return {
            name: self._copies.get(path + b"/" + name if path else name) or os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
            for name, real in (directory.upper_names or {}).items()
            if kind_in(real) != kinds.WHT and (not ino_in(real) or (path + b"/" + name if path else name) in self._copies)
        }

    def _freeze_directory(self, frozen: _Frozen) -> list[Notice]:
        directory, above, upper_names, lower_names = frozen
        upper = directory.upper
        assert upper is not None
        upper.impure = upper.impure or directory.impure
        directory.lower_names, directory.upper_names = lower_names, upper_names
        directory.upper, directory.lowers = above, (upper, *directory.lowers)
        directory.impure, directory.redirect = above is not None and above.impure, b""
        top = directory.top
        directory.place, directory.place_name = top.parent or top, top.name
        # A copy of the old one, with another ctime; it is a merged one now, whose links are not counted.
        return [] if above is None else [StaleAttributes(directory.node)]

    # -- the others -------------------------------------------------------------------------------------------------------

    def _freeze(self, moved: _Moved) -> list[Notice]:
        inode, place, name, st = moved
        nodes = self._tree.nodes
        inode.place, inode.place_name = place, name
        inode.lower_ctime, inode.has_origin, inode.redirect = ctime_mark(st), False, b""
        if inode.hard_link_ino:
            nodes.hard_links.pop(inode.hard_link_ino, None)
            inode.hard_link_ino = 0
        if inode.links is not None:
            nodes.lower_links.pop(inode.links.key, None)
            was_indexed, inode.links = bool(inode.links.entry), None
        else:
            was_indexed = False
        nlink = st.st_nlink - was_indexed
        if nlink > 1 and self._tree.index is not None and (inode.kind == kinds.REG or not self._tree.xattrs.is_user):
            nodes.add_lower_links(inode, LowerLinks((st.st_dev, st.st_ino), nlink))
            return []
        return self._part(inode)

    def _part(self, inode: Inode) -> list[Notice]:
        """Without an index each name of a lower file leads to a file of its own: the inode keeps the one that it is found by."""
        notices: list[Notice] = []
        for parent, name in inode.names[1:]:
            self._tree.nodes.detach(inode, parent, name)
            notices.append(StaleName(parent.node, name))
        if inode.parent is not None:
            inode.place, inode.place_name = self._frozen(inode.parent), inode.name
        return notices

    @staticmethod
    def _frozen(directory: Directory) -> RealDir:
        return directory.lowers[0]

    def _carry(self, inode: Inode, names: tuple[bytes, ...]) -> None:
        parent, _, name = names[0].rpartition(b"/")
        inode.carried = self._generations[inode]
        if inode.orphan_fd < 0:
            inode.place, inode.place_name = self._real[parent], name
        if inode.links is not None:
            self._tree.nodes.lower_links.pop(inode.links.key, None)
            inode.links = None


def abandon_copy_ups(tree: Tree) -> None:
    """Whoever waits for a copy-up begins it anew: what was staged has marks that are good for the present layers."""
    for inode in tree.nodes:
        if inode.rare is not None and inode.copying is not None:
            inode.copying.abandon()
            inode.copying = None


def _merged(upper: dict[bytes, RealName], lower: dict[bytes, LowerName], inos: dict[bytes, int]) -> dict[bytes, LowerName]:
    """What the lower part of a directory shows when its upper part is the topmost of it."""
    merged: dict[bytes, LowerName] = {}
    for name, real in upper.items():
        kind = kind_in(real)
        if kind != kinds.WHT:
            below = tuple(place + 1 for place in directory_places(lower.get(name))) if kind == kinds.DIR else ()
            merged[name] = lower_name(kind, inos.get(name) or ino_in(real), (0, *below))
    for name, hidden in lower.items():
        if name not in upper:
            merged[name] = lower_name(lower_kind(hidden), lower_ino(hidden), tuple(place + 1 for place in places_of(hidden)))
    return merged
