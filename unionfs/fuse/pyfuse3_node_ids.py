"""The ids that libfuse knows nodes by, where node id and inode number cannot differ."""

from __future__ import annotations

import errno
import os

from unionfs.filesystem import ROOT_ID

# Above the inode numbers of any real filesystem, and still positive as a C long.
_FIRST_SPARE = 0x7FFF << 48
_NO_NODE = 0


class _Known:
    """A node that the kernel knows, and how often it was looked up."""

    __slots__ = ("nlookup", "node")

    def __init__(self, node: int) -> None:
        self.node = node
        self.nlookup = 0


class NodeIds:
    """Translates between the node ids of the filesystem contract and those given to libfuse.

    ``pyfuse3.EntryAttributes`` has one field for both the node id and the ``st_ino`` of an entry.  So that users see the inode
    numbers that the filesystem shows, those *are* the ids given to libfuse; only the root keeps `ROOT_ID`.  Should a number be
    taken by another node still, that the kernel has not forgotten yet, a spare one stands in as id and as ``st_ino``: an unusual
    number, but never another file's.
    """

    def __init__(self) -> None:
        root = _Known(ROOT_ID)
        root.nlookup = 1  # for ever: the kernel never forgets the root
        self._known = {ROOT_ID: root}
        self._ids = {ROOT_ID: ROOT_ID}
        self._next_spare = _FIRST_SPARE

    def __len__(self) -> int:
        return len(self._known)

    def node(self, kernel_id: int) -> int:
        """The node that the kernel means.

        Raises:
            OSError: ESTALE, the kernel has no reference to such a node.
        """
        try:
            return self._known[kernel_id].node
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def known_id(self, node: int) -> int | None:
        """The id that the kernel has for ``node``; None if it has no reference to it."""
        return self._ids.get(node)

    def look_up(self, node: int, ino: int) -> int:
        """The id for ``node``, whose inode number is ``ino``, counted as one more lookup."""
        kernel_id = self._ids.get(node)
        if kernel_id is None:
            kernel_id = self._ids[node] = ino if ino > ROOT_ID and ino not in self._known else self._spare()
            self._known[kernel_id] = _Known(node)
        self._known[kernel_id].nlookup += 1
        return kernel_id

    def stand_in(self) -> int:
        """An id for the row of a name without an entry.

        Such a row has no valid type, so the kernel shows the name, but makes no inode and forgets the id at once
        (fs/fuse/readdir.c, parse_dirplusfile); any other id would be that of a node.
        """
        kernel_id = self._spare()
        self._known[kernel_id] = stand_in = _Known(_NO_NODE)
        stand_in.nlookup = 1
        return kernel_id

    def forget(self, kernel_id: int, nlookup: int) -> int:
        """Take ``nlookup`` lookups back; returns the node.  ESTALE as `node`."""
        node = self.node(kernel_id)
        known = self._known[kernel_id]
        known.nlookup -= nlookup
        if known.nlookup <= 0 and node != ROOT_ID:
            del self._known[kernel_id]
            self._ids.pop(node, None)
        return node

    def _spare(self) -> int:
        while self._next_spare in self._known:
            self._next_spare += 1
        self._next_spare += 1
        return self._next_spare - 1
