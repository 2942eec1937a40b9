"""The merged tree: which inode a name leads to.  What all operations of the union share."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

from unionfs.filesystem import Blocking, Forgettable, StaleAttributes
from unionfs.journal import records
from unionfs.journal.journal import Finished, NoJournal
from unionfs.linux.statfs import TMPFS_MAGIC, filesystem_type
from unionfs.overlay import kinds
from unionfs.overlay.ino_map import CopiedUpInos, InoMap, ShortInoMap
from unionfs.overlay.inode import Directory, Inode, ctime_mark
from unionfs.overlay.layer import Layer, RealDir, Stack, at, stat_in
from unionfs.overlay.listing import (
    LowerName,
    RealName,
    directory_places,
    forget_names,
    kind_in,
    lower_kind,
    lower_places,
    merge,
    read_names,
    take_dot_whiteouts,
)
from unionfs.overlay.lower_links import find_linked, join_links, may_be_kept
from unionfs.overlay.node_table import NodeTable
from unionfs.overlay.open_stack import OpenStack
from unionfs.overlay.options import Options
from unionfs.overlay.snapshot_origins import first_ino, lower_ino, numbered

T = TypeVar("T")


class Tree(OpenStack):
    """The layers and the inodes found in them so far.

    An open stack itself, and not one that has one: every request asks for several of its parts, and each step there would be paid
    by all of them.
    """

    def __init__(self, stack: Stack, options: Options, pool_limit: int | None = None) -> None:
        """Parameters and errors as `OpenStack`."""
        super().__init__(stack, options, pool_limit)
        self.notices: list[StaleAttributes | Forgettable] = []
        """See `unionfs.filesystem.Filesystem`."""
        self.static_nlink = options.static_nlink
        self._keeps_links = self.index is not None or self.upper is None
        """Whether all names of a lower file lead to one inode.  Without an index each may be copied up to a file of its own."""
        layers = [*([self.upper] if self.upper else ()), *self.lowers]
        self.inos = (ShortInoMap if options.ino32 else InoMap)(layer.device for layer in layers)
        self.nodes = NodeTable(self.inos.of_node)
        self.copied_up_inos = CopiedUpInos()
        """Inode numbers shown for upper files that were copied up in this mount and could not be given an origin, by their real
        one; changed by `show_ino`."""
        self.journal = NoJournal()
        self.told_of_owners = False
        """Whether it was logged that an object could not be copied up because of its owner."""
        self._begin()

    def _begin(self) -> None:
        """Start at the root, with nothing looked up yet."""
        upper_root = self.upper.root if self.upper else None
        self.root = self.new_directory(upper_root, tuple(layer.root for layer in self.lowers))

    def over(self, lowers: list[Layer]) -> Tree:
        """The same union over other lower layers, with nothing looked up yet: what a fresh mount of them would show.  It shares
        all else with this one, and is for looking only (see `unionfs.overlay.layers_change`).

        Raises:
            OSError: a layer does not go with what was settled when the union was mounted: its index, or where owners are.
        """
        self._check_owners(lowers)
        other = copy.copy(self)
        other.nodes = NodeTable(self.inos.of_node)
        other._use_lowers(lowers)
        other._begin()
        return other

    # -- the journal ------------------------------------------------------------------------------------------------------

    def use_journal(self, journal: NoJournal) -> None:
        """From now on, before anything but the root is known, write down there what the next worker must know."""
        self.journal = journal
        nodes = self.nodes
        nodes.touched, nodes.close_orphan, nodes.note_gone = journal.touched, journal.close_later, journal.note_gone
        nodes.numbers.touched = journal.touched
        journal.sources += [nodes, self.copied_up_inos]

    def show_ino(self, real: int, shown: int) -> None:
        """Show this number for the upper file that has another one; ``shown`` 0: its own."""
        if shown:
            self.copied_up_inos[real] = shown
        elif self.copied_up_inos.pop(real, None) is None:
            return
        self.journal.touched[Finished(records.shown_ino(real, shown))] = None

    def keep_order(self, directory: Directory) -> None:
        """Write down how ``directory``, which has an order, is listed."""
        order = directory.order
        if order is not None:
            order.is_kept = True
            self.journal.touched[Finished(order.record(directory.node))] = None

    def listed(self, directory: Directory, name: bytes) -> None:
        """A name of a directory that is being listed comes."""
        order = directory.order
        if order is None:
            return
        is_new = order.add(name)
        if not order.is_kept:
            self.keep_order(directory)
        elif is_new:
            self.journal.touched[Finished(order.listed(directory.node, name))] = None

    def close(self) -> None:
        """Give every descriptor back."""
        # Before the work directory, where what they have staged may still have a name.
        for inode in self.nodes:
            if inode.orphan_fd >= 0:
                os.close(inode.orphan_fd)
                inode.orphan_fd = -1
            if inode.copying is not None:
                inode.copying.abandon()
                inode.copying = None
        self._close_layers()

    @property
    def upper_is_durable(self) -> bool:
        """Whether the upper layer is on something that outlives a power cut, so that making data durable means anything."""
        return self.upper is not None and filesystem_type(self.upper.root.fd) != TMPFS_MAGIC

    # -- real objects -----------------------------------------------------------------------------------------------------

    def stat(self, inode: Inode) -> os.stat_result:
        """stat(2) of the real object behind ``inode``."""
        if inode.orphan_fd >= 0:
            return os.fstat(inode.orphan_fd)
        if inode.has_own_fd:
            return os.fstat(inode.fd)
        if isinstance(inode, Directory):
            return self._stat_directory(inode.top)
        return self._stat_in(inode.place, inode.place_name)

    def _stat_directory(self, real: RealDir) -> os.stat_result:
        if real.parent is None:
            return real.ask(self.pool, os.fstat)
        return os.fstat(real.fd) if real.fd >= 0 else self._stat_in(real.parent, real.name)

    def _stat_in(self, place: RealDir, name: bytes) -> os.stat_result:
        if place.layer.remote is None:
            return os.stat(name, dir_fd=self.dir_fd(place), follow_symlinks=False)
        return place.ask(self.pool, stat_in, name)

    def path(self, inode: Inode) -> bytes:
        """A path to the real object for calls that take no descriptor; good as long as `dir_fd`.

        Its last component is a symbolic link if the object is one, or if the object has no name; so calls that are made on it
        must not follow links, or else be made on what is known to be none (see `follows`).
        """
        if inode.orphan_fd >= 0:
            return b"/proc/self/fd/%d" % inode.orphan_fd
        if isinstance(inode, Directory):
            real = inode.top
            if real.parent is None:
                return b"/proc/self/fd/%d/." % self.dir_fd(real)
            # Not by itself: an owner without the right to search the directory may change it nevertheless.
            return b"/proc/self/fd/%d/%s" % (self.dir_fd(real.parent), real.name)
        return b"/proc/self/fd/%d/%s" % (self.dir_fd(inode.place), inode.place_name)

    def target(self, inode: Inode) -> tuple[int | bytes, bool]:
        """The real object behind ``inode`` for calls of `os` that take a descriptor or a path: an open one, or else `path`; and
        whether they are to follow links."""
        if inode.has_own_fd:
            return inode.fd, True
        return self.path(inode), inode.orphan_fd >= 0

    def ask(self, inode: Inode, function: Callable[..., T], *arguments: Any) -> T:
        """What ``function``, which only looks, returns for both parts of `target` and ``arguments``.

        Raises:
            Blocking: as `RemoteLayer.ask`.
            OSError: that of ``function``.
        """
        real, name = (inode.top, b".") if isinstance(inode, Directory) else (inode.place, inode.place_name)
        if real.layer.remote is None or inode.orphan_fd >= 0:
            return function(*self.target(inode), *arguments)
        if name == b"." and real.parent is not None:
            real, name = real.parent, real.name
        found: T = real.ask(self.pool, at, name, function, False, *arguments)
        return found

    # -- names ------------------------------------------------------------------------------------------------------------

    def load(self, directory: Directory) -> None:
        """Read the names of all real directories of ``directory``.

        Done once: nobody but this union changes the upper, and the lowers do not change.  From then on a lookup costs the same
        whatever the number of layers, and one of a name that is not there costs no system call.
        """
        if directory.orphan_fd >= 0:
            directory.lower_names, directory.upper_names = {}, {}
            return
        if directory.lower_names is None:
            directory.lower_names = merge(directory.lowers, self.pool, self.xattrs)
            forget_names(directory.lowers, self.xattrs)
        if directory.upper_names is None:
            upper, lower_names = directory.upper, directory.lower_names
            directory.upper_names = {} if upper is None else self._read_upper(directory, upper, lower_names)

    def _read_upper(self, directory: Directory, upper: RealDir, lower_names: dict[bytes, LowerName]) -> dict[bytes, RealName]:
        names = read_names(upper, self.pool, self.xattrs)
        directory.impure = upper.impure
        if self._whiteouts is not None:
            self._whiteouts.adopt(upper, names)
        else:
            take_dot_whiteouts(names, lower_names)
        return names

    def kind(self, directory: Directory, name: bytes) -> int | None:
        """Type of the object that ``name`` means in ``directory``; None where there is none."""
        if directory.upper_names is None or directory.lower_names is None:
            self.load(directory)
        above = directory.upper_names.get(name)  # type: ignore[union-attr]
        if above is not None:
            kind = kind_in(above)
            return None if kind == kinds.WHT else kind
        below = directory.lower_names.get(name)  # type: ignore[union-attr]
        return None if below is None else lower_kind(below)

    def names(self, directory: Directory) -> list[bytes]:
        """All names that ``directory`` shows."""
        self.load(directory)
        upper, lower = directory.upper_names or {}, directory.lower_names or {}
        shown = [name for name, real in upper.items() if kind_in(real) != kinds.WHT]
        return shown + [name for name in lower if name not in upper]

    def names_to_list(self, directory: Directory) -> list[bytes]:
        """The same in an order that no change but a new name changes: first all of the lower layers, hidden or not."""
        self.load(directory)
        upper, lower = directory.upper_names or {}, directory.lower_names or {}
        return [*lower, *(name for name, real in upper.items() if name not in lower and kind_in(real) != kinds.WHT)]

    def has_lower(self, directory: Directory, name: bytes) -> bool:
        """Whether a lower layer would show ``name``, so that a whiteout must hide it when it goes."""
        if directory.lower_names is None:
            self.load(directory)
        return name in directory.lower_names  # type: ignore[operator]

    def has_upper(self, directory: Directory, name: bytes) -> bool:
        """Whether the upper layer holds anything at ``name``, a whiteout too."""
        if directory.upper_names is None:
            self.load(directory)
        return name in directory.upper_names  # type: ignore[operator]

    def has_whiteout(self, directory: Directory, name: bytes) -> bool:
        """Whether the upper layer holds a whiteout at ``name``."""
        if directory.upper_names is None:
            self.load(directory)
        above = directory.upper_names.get(name)  # type: ignore[union-attr]
        return above is not None and kind_in(above) == kinds.WHT

    # -- inodes -----------------------------------------------------------------------------------------------------------

    def find(self, directory: Directory, name: bytes) -> tuple[Inode, os.stat_result] | None:
        """The inode ``name`` leads to, and its attributes now; None where there is none."""
        child = directory.children.get(name)
        if child is not None:
            return child, self.stat(child)
        if directory.upper_names is None or directory.lower_names is None:
            self.load(directory)
        above = directory.upper_names.get(name)  # type: ignore[union-attr]
        below = directory.lower_names.get(name)  # type: ignore[union-attr]
        if above is None:
            if below is None:
                return None
            return self._find_lower(directory, name, lower_kind(below), lower_places(below))
        kind = kind_in(above)
        if kind == kinds.WHT:
            return None
        return self._find_upper(directory, name, kind, directory_places(below))

    def must_find(self, directory: Directory, name: bytes) -> Inode:
        """The inode ``name`` leads to.  ENOENT where there is none."""
        found = self.find(directory, name)
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found[0]

    def _find_lower(self, directory: Directory, name: bytes, kind: int, places: tuple[int, ...]) -> tuple[Inode, os.stat_result]:
        place = directory.lowers[places[0]]
        st = self._stat_in(place, name)
        if kind == kinds.DIR:
            child: Inode = self.new_directory(None, self.lower_stack.of_lower(directory, name, places), st)
        elif st.st_nlink > 1 and self._keeps_links and may_be_kept(self, kind):
            child, st = find_linked(self, directory, name, kind, places[0], st)
        else:
            child = self.new_lower_inode(directory, name, kind, places[0], st)
        self.nodes.attach(child, directory, name)
        return child, st

    def new_lower_inode(self, directory: Directory, name: bytes, kind: int, position: int, st: os.stat_result) -> Inode:
        place = directory.lowers[position]
        inode = Inode(self.nodes.new_id(), lower_ino(self, place, name, st), kind, place, name, ctime_mark(st))
        self.nodes.add(inode)
        if kind == kinds.REG and self.metacopies.may_be(place):
            self.find_data(inode, directory, name, position)
        return inode

    def _find_upper(self, directory: Directory, name: bytes, kind: int, places: tuple[int, ...]) -> tuple[Inode, os.stat_result]:
        upper = directory.upper
        assert upper is not None
        st = os.stat(name, dir_fd=self.dir_fd(upper), follow_symlinks=False)
        if kind == kinds.DIR:
            child: Inode = self._find_upper_directory(directory, name, places, st)
        else:
            known = self.nodes.hard_links.get(st.st_ino) if st.st_nlink > 1 else None
            child = known or self._copied_up_inode(directory, name, kind, st)
            if child.orphan_fd >= 0:
                self.adopt(child, upper, name)
            elif known is None and st.st_nlink > 1:
                self.nodes.add_hard_link(child, st.st_ino)
        self.nodes.attach(child, directory, name)
        return child, st

    def _copied_up_inode(self, directory: Directory, name: bytes, kind: int, st: os.stat_result) -> Inode:
        """An inode for an upper object that may have an origin: then it keeps the number of that."""
        assert directory.upper is not None
        value, origin = b"", None
        if directory.impure:
            value = self.xattrs.origin(b"/proc/self/fd/%d/%s" % (self.dir_fd(directory.upper), name))
            origin = self.origins.find(value)
        first = first_ino(self, directory.upper, name) if value else None
        inode = self.new_upper_inode(directory.upper, name, kind, st)
        if directory.impure:
            inode.has_origin = bool(value)
            # Of a lower file with several names each copied-up one is a file of its own, with its own number, unless the index
            # keeps them together.
            if origin is not None and (origin.nlink == 1 or join_links(self, inode, origin, value.hex().encode(), st)):
                inode.ino = first or self.inos.shown(origin.device, origin.ino)
            elif origin is None and first:
                # It went on over a snapshot; what it had been copied up from was hidden by that, and went with a merge.
                inode.ino = first
        if kind == kinds.REG and (directory.impure or not self.upper_was_empty):
            # See `Metacopies.may_be`.
            self.find_data(inode, directory, name, -1)
        return inode

    def find_data(self, inode: Inode, directory: Directory, name: bytes, position: int) -> None:
        try:
            found = self.metacopies.data_of(directory, name, inode.place, inode.place_name, position)
        except (OSError, Blocking):
            self.nodes.release(inode)
            raise
        if found is not None:
            inode.data, redirect = found
            if position < 0:
                inode.redirect = redirect

    def mark_impure(self, directory: Directory) -> None:
        """``directory``, which is in the upper layer, is about to hold an object with an origin."""
        if not directory.impure:
            assert directory.upper is not None
            fd, limit = self.dir_fd(directory.upper), self.work.limit
            before = os.fstat(fd)
            directory.impure = self.xattrs.set_impure(fd)
            after = self.upper_layer.hide_change(before, fd)
            if limit is not None:
                # The attribute may be the one too many for the inode.
                limit.charge((after.st_blocks - before.st_blocks) * 512)

    def _find_upper_directory(self, directory: Directory, name: bytes, places: tuple[int, ...], st: os.stat_result) -> Directory:
        real = RealDir(self.upper_layer, directory.upper, name)
        if not self.lower_stack.may_merge(directory, places):
            return self.new_directory(real, (), st)
        lowers, redirect = self.lower_stack.of_upper(directory, name, real, places)
        if not lowers:
            return self.new_directory(real, (), st)
        child = self.new_directory(real, lowers, self._stat_directory(lowers[0]))
        child.redirect = redirect
        return child

    def new_directory(self, upper: RealDir | None, lowers: tuple[RealDir, ...], st: os.stat_result | None = None) -> Directory:
        """An inode for a directory made up of these real ones.

        ``st`` is of the topmost lower one, or of the upper one if there is no lower: its inode number is what is shown, so
        copy-up does not change it.
        """
        real = numbered(lowers) if lowers else upper
        assert real is not None
        if st is None or (lowers and real is not lowers[0]):
            st = self._stat_directory(real)
        directory = Directory(self.nodes.new_id(), self.inos.shown(st.st_dev, st.st_ino), upper, lowers)
        self.nodes.add(directory)
        return directory

    def new_upper_inode(self, place: RealDir, name: bytes, kind: int, st: os.stat_result) -> Inode:
        """An inode for something in the upper layer that is no directory."""
        ino = self.copied_up_inos.get(st.st_ino) or self.inos.shown(st.st_dev, st.st_ino)
        inode = Inode(self.nodes.new_id(), ino, kind, place, name)
        self.nodes.add(inode)
        return inode

    def adopt(self, inode: Inode, place: RealDir, name: bytes) -> None:
        """An upper file all whose known names were removed has a name again (one that was not known, or a new one)."""
        if not inode.carried and place.layer.generation != inode.place.layer.generation and inode.data is None:
            # It was open over a snapshot, without a name: the upper is another one, the file that the kernel has open is not.
            inode.carried = inode.place.layer.generation
        self.nodes.close_orphan(inode.orphan_fd)
        inode.orphan_fd = -1
        inode.place, inode.place_name = place, name
