"""Inode numbers that nodes go on showing though a look at the layers would give others: after a change of layers, or a merge of
snapshots, whose old files are gone.

As long as the kernel knows such a node, nothing else shows its number: a filesystem gives that of a removed file to the next new
one.  What the layers tell may change with every change of them, in ways that show only when a node is found anew.  So before each
the numbers of all nodes are written down; another worker compares those with what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from unionfs.journal import records
from unionfs.journal.journal import Finished, NoJournal, Recorded
from unionfs.overlay.inode import Inode


class KeptNumbers(dict[int, int]):
    """Those of one union, by node id."""

    def __init__(self, number_of: Callable[[int], int]) -> None:
        """``number_of``: gives a node id a number that no object of the layers shows."""
        super().__init__()
        self.touched: dict[Recorded, None] = NoJournal().touched
        """See `unionfs.journal.journal.Journal`."""
        self._number_of = number_of
        self._shown: set[int] = set()
        self._are_noted = False
        self._recovered: dict[int, int] = {}

    def note(self, inodes: Iterable[Inode]) -> None:
        """Have it written down what all of ``inodes`` show: the layers are about to change."""
        self._are_noted = True
        for inode in inodes:
            self._touch(inode.node, inode.ino)

    def keep(self, inode: Inode) -> None:
        """The number that ``inode`` shows now is its own until the kernel has forgotten it."""
        if self.get(inode.node) != inode.ino:
            self.drop(inode.node)
            self[inode.node] = inode.ino
            self._shown.add(inode.ino)
            self._touch(inode.node, inode.ino)

    def give_up(self, inode: Inode) -> None:
        """``inode`` shows what the layers say from now on."""
        if inode.node in self or self._are_noted:
            self.drop(inode.node)
            self._touch(inode.node, 0)

    def settle(self, inode: Inode) -> None:
        """``inode`` was just found, and shows what the layers say."""
        known = self._recovered.get(inode.node, inode.ino)
        if inode.ino != known:
            inode.ino = known
            self.keep(inode)
        elif inode.ino in self._shown and inode.node not in self:
            inode.ino = self._number_of(inode.node)
            self.keep(inode)

    def hand_on(self, inode: Inode, successor: Inode) -> None:
        """``successor`` stands for ``inode`` from now on."""
        if inode.node in self:
            self.give_up(inode)
            self.keep(successor)
        elif self._are_noted:
            self._touch(successor.node, successor.ino)

    def drop(self, node: int) -> None:
        """The node is no more."""
        self._shown.discard(self.pop(node, 0))

    def _touch(self, node: int, ino: int) -> None:
        self.touched[Finished(records.number(node, ino))] = None

    # -- another worker ---------------------------------------------------------------------------------------------------

    def begin_recovery(self, numbers: dict[int, int]) -> None:
        """Another worker has written down these; until `end_recovery` what is found is compared with them."""
        self._recovered = numbers
        self._are_noted = bool(numbers)

    def settle_unnamed(self, inode: Inode) -> None:
        """``inode`` was found again and has no name: what gave it its number may be gone."""
        if inode.node in self._recovered:
            self.keep(inode)

    def end_recovery(self) -> None:
        """All that it knew has been found."""
        self._recovered = {}

    @property
    def has_to_settle(self) -> bool:
        """Whether `settle` has anything to do."""
        return bool(self._shown or self._recovered)

    def current(self, inode: Inode) -> Finished | None:
        """What the journal is to have of ``inode``."""
        if self._are_noted or inode.node in self:
            return Finished(records.number(inode.node, inode.ino))
        return None
