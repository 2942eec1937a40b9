"""The inodes the kernel knows, by node id."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterator

from unionfs.filesystem import ROOT_ID
from unionfs.journal import records
from unionfs.journal.journal import Finished, NoJournal, Recorded
from unionfs.journal.records import Kind
from unionfs.overlay.fd_pool import close
from unionfs.overlay.inode import MANY_NAMES, Directory, Inode, LowerLinks
from unionfs.overlay.kept_numbers import KeptNumbers


class NodeTable:
    """All inodes there are, and when they go.

    An inode stays while the kernel holds a reference to it, a directory also while one of its children stays: the kernel may
    forget a directory before what is in it, and a second `Directory` for the same real ones would not see its changes.
    """

    def __init__(self, number_of: Callable[[int], int]) -> None:
        """``number_of``: see `KeptNumbers`."""
        self.numbers = KeptNumbers(number_of)
        self.ceiling, self.floor = sys.maxsize, 0
        """`on_crossing` is called when there are more inodes than the ceiling, or no more than the floor."""
        self.on_crossing: Callable[[], None] = lambda: None
        self.on_orphan_end: Callable[[int], None] | None = None
        """Called with the descriptor of an object without a name that is about to be let go of."""
        self.touched: dict[Recorded, None] = NoJournal().touched
        """The inodes whose nlookup or names changed, see `unionfs.journal.journal.Journal`."""
        self.close_orphan: Callable[[int], None] = os.close
        self.note_gone: Callable[[int], None] = NoJournal().note_gone
        self._nodes: dict[int, Inode] = {}
        self._next = ROOT_ID
        self.stale: set[int] = set()
        """Node ids that a copy-up left behind, as long as the kernel knows them."""
        self.written: set[int] = set()
        """Node ids opened for writing since they were last pinned by nobody: the kernel may write to the real file by itself."""
        self.hard_links: dict[int, Inode] = {}
        """Upper files with several names, by real inode number: all names lead to one inode."""
        self.lower_links: dict[tuple[int, int], Inode] = {}
        """Lower files with several names, copied up or not, by `LowerLinks.key`, where the union keeps those together."""

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._nodes.values())

    def new_id(self) -> int:
        """A node id that no node ever had; the first one is the root's."""
        node = self._next
        self._next += 1
        return node

    def take_id(self, node: int) -> None:
        """Let `new_id` give just this one next: it had it in another worker."""
        self._next = node

    def add(self, inode: Inode) -> None:
        """Make ``inode`` known by its node id."""
        self._nodes[inode.node] = inode
        if len(self._nodes) > self.ceiling:
            self.on_crossing()

    def rotate(self, most: int) -> Iterator[Inode]:
        """Up to ``most`` inodes from the start of the table; each one taken from the iterator moves to its end.  So those known
        for longest come first, and each has its turn."""
        nodes = self._nodes
        for node in list(itertools.islice(nodes, most)):
            inode = nodes.pop(node)
            nodes[node] = inode
            yield inode

    def get(self, node: int) -> Inode:
        """The inode of a node id, or, if a copy-up left that behind, its successor.  ESTALE for one that was forgotten."""
        try:
            inode = self._nodes[node]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None
        while inode.rare is not None and inode.rare.successor is not None:
            inode = inode.rare.successor
        return inode

    def get_directory(self, node: int) -> Directory:
        """The same for a directory.  ENOTDIR for anything else."""
        inode = self._nodes.get(node)
        if inode.__class__ is Directory:
            return inode
        raise OSError(errno.ESTALE if inode is None else errno.ENOTDIR, "not a directory of this union")

    def find(self, node: int) -> Inode | None:
        """The inode of just this node id, stale or not; None if there is none."""
        return self._nodes.get(node)

    def attach(self, inode: Inode, parent: Directory, name: bytes) -> None:
        """``inode`` has (or was found to have) the name ``name``."""
        if inode.parent is None:
            inode.parent, inode.name = parent, name
            if self.numbers.has_to_settle:
                self.numbers.settle(inode)
        else:
            inode.add_name(parent, name)
            if len(inode.other_names or ()) > MANY_NAMES:
                self.touched[Finished(records.name(inode.node, parent.node, name))] = None
        parent.children[name] = inode
        self.touched[inode] = None

    def detach(self, inode: Inode, parent: Directory, name: bytes) -> None:
        """``inode`` has the name ``name`` no more."""
        if inode.rare is not None and len(inode.other_names or ()) > MANY_NAMES:
            self.touched.pop(Finished(records.name(inode.node, parent.node, name)), None)
            self.touched[Finished(records.no_name(inode.node, parent.node, name))] = None
        inode.remove_name(parent, name)
        del parent.children[name]
        self.touched[inode] = None

    def release(self, inode: Inode | None) -> None:
        """Drop ``inode`` if nothing keeps it, then its ancestors that nothing else kept."""
        waiting = [] if inode is None else [inode]
        while waiting:
            inode = waiting.pop()
            # Names of one file may lie in one directory, or in one above another: its ancestors may come by here more than once.
            if inode.nlookup > 0 or inode.node == ROOT_ID or inode.node not in self._nodes:
                continue
            if (inode.rare is not None and inode.predecessor is not None) or (isinstance(inode, Directory) and inode.children):
                self.touched[inode] = None  # it stays, and nothing else tells that the kernel holds it no more
                continue
            if inode.parent is not None:
                waiting.append(inode.parent)
                waiting += [parent for parent, _ in inode.other_names or ()]
            self._drop(inode)

    def discard(self, inode: Inode) -> None:
        """Drop ``inode``, which has no name, though the kernel holds it: from now on that gets ESTALE for it."""
        inode.nlookup = 0
        self.release(inode)

    def _drop(self, inode: Inode) -> None:
        for parent, name in inode.names:
            del parent.children[name]
        inode.remove_names()
        close(inode)
        if isinstance(inode, Directory):
            for real in (inode.upper, *inode.lowers):
                if real is not None and real.parent is not None:
                    close(real)
        del self._nodes[inode.node]
        self.touched.pop(inode, None)
        self.note_gone(inode.node)
        self.written.discard(inode.node)
        self.numbers.drop(inode.node)
        if len(self._nodes) <= self.floor:
            self.on_crossing()
        if inode.orphan_fd >= 0:
            if self.on_orphan_end is not None:
                self.on_orphan_end(inode.orphan_fd)
            self.close_orphan(inode.orphan_fd)
            inode.orphan_fd = -1
        if inode.rare is not None:
            self._drop_rare(inode)

    def _drop_rare(self, inode: Inode) -> None:
        if inode.copying is not None:
            inode.copying.abandon()
            inode.copying = None
        if inode.hard_link_ino:
            del self.hard_links[inode.hard_link_ino]
        if inode.links is not None:
            del self.lower_links[inode.links.key]
        successor, inode.successor = inode.successor, None
        if successor is not None:
            self.stale.discard(inode.node)
            successor.predecessor = None
            self.release(successor)

    def succeed(self, stale: Inode, successor: Inode) -> None:
        """From now on ``successor`` is what the node of ``stale`` means."""
        stale.successor, successor.predecessor = successor, stale
        self.stale.add(stale.node)
        self.touched[stale] = self.touched[successor] = None

    def add_hard_link(self, inode: Inode, real_ino: int) -> None:
        """``inode`` is an upper file that has, or is to get, more than one name."""
        inode.hard_link_ino = real_ino
        self.hard_links[real_ino] = inode

    def add_lower_links(self, inode: Inode, links: LowerLinks) -> None:
        """``inode`` is what all names of a lower file lead to."""
        inode.links = links
        self.lower_links[links.key] = inode

    # -- the journal ------------------------------------------------------------------------------------------------------

    def touch_all(self) -> None:
        """Have all there is written down anew."""
        self.touched.update((inode.whole_record(), None) for inode in self._nodes.values())

    def all_current(self) -> Iterator[Recorded]:
        """See `unionfs.journal.journal.Current`."""
        # First, and whether it is gone or not: no other node will have this id, or a lower one.
        yield Finished(records.gone([self._next - 1]))
        for inode in self._nodes.values():
            yield inode.whole_record()
            if (number := self.numbers.current(inode)) is not None:
                yield number
            if isinstance(inode, Directory) and inode.order is not None and inode.order.is_kept:
                yield Finished(inode.order.record(inode.node))

    def current(self, kind: int, about: int) -> Recorded | None:
        """See `unionfs.journal.journal.Current`."""
        if kind in _OF_INODES:
            inode = self._nodes.get(about)
            return None if inode is None else inode.whole_record()
        if kind == Kind.NUMBER:
            inode = self._nodes.get(about)
            return None if inode is None else self.numbers.current(inode)
        if kind in (Kind.ORDER, Kind.LISTED):
            directory = self._nodes.get(about)
            if isinstance(directory, Directory) and directory.order is not None and directory.order.is_kept:
                return Finished(directory.order.record(about))
        return None


_OF_INODES = frozenset((Kind.NODE, Kind.NAME, Kind.NO_NAME, Kind.COUNT, Kind.UNNAMED, Kind.SUCCEEDED))
