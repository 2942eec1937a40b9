"""Inode numbers that nodes go on showing though a look at the layers would give others: after a change of layers, or a merge of
snapshots, whose old files are gone.

As long as the kernel knows such a node, nothing else shows its number: a filesystem gives that of a removed file to the next new
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from unionfs.journal import records
from unionfs.journal.journal import NoJournal, Recorded
from unionfs.journal.records import Kind
from unionfs.overlay.inode import Inode


class KeptNumbers(dict[int, int]):
    """Those of one union, by node id."""

    def __init__(self, number_of: Callable[[int], int]) -> None:
        """``number_of``: gives a node id a number that no object of the layers shows."""
        super().__init__()
        self.touched: dict[Recorded | bytes, None] = NoJournal().touched
        """See `unionfs.journal.journal.Journal`."""
        self._number_of = number_of
        self._shown: set[int] = set()

    def keep(self, inode: Inode) -> None:
        """The number that ``inode`` shows now is its own until the kernel has forgotten it."""
        if self.get(inode.node) != inode.ino:
            self.drop(inode.node)
            self[inode.node] = inode.ino
            self._shown.add(inode.ino)
            self.touched[records.number(inode.node, inode.ino)] = None

    def give_up(self, inode: Inode) -> None:
        """``inode`` shows what the layers say from now on."""
        if inode.node in self:
            self.drop(inode.node)
            self.touched[records.number(inode.node, 0)] = None

    def settle(self, inode: Inode) -> None:
        """``inode`` was just found, and shows what the layers say; or it has another name."""
        kept = self.get(inode.node)
        if kept is not None:
            inode.ino = kept
        elif inode.ino in self._shown:
            inode.ino = self._number_of(inode.node)
            self.keep(inode)

    def hand_on(self, inode: Inode, successor: Inode) -> None:
        """``successor`` stands for ``inode`` from now on."""
        if inode.node in self:
            self.give_up(inode)
            self.keep(successor)

    def drop(self, node: int) -> None:
        """The node is no more."""
        self._shown.discard(self.pop(node, 0))

    def restore(self, numbers: dict[int, int]) -> None:
        """Another worker has kept these."""
        self.update(numbers)
        self._shown.update(numbers.values())

    # -- the journal ------------------------------------------------------------------------------------------------------

    def all_current(self) -> Iterator[bytes]:
        """See `unionfs.journal.journal.Current`."""
        return (records.number(node, ino) for node, ino in self.items())

    def current(self, kind: int, about: int) -> bytes | None:
        """See `unionfs.journal.journal.Current`."""
        number = self.get(about) if kind == Kind.NUMBER else None
        return None if number is None else records.number(about, number)
