"""Offsets of directory listings that stay good while names come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

_POSITION_BITS = 40
_FIRST = 2  # offsets 1 and 2 stand behind "." and "..", which are not kept here
_KEPT_GENERATIONS = 4
_WORTH_COMPACTING = 1024


class ListingOrder:
    """The order in which the names of one directory are listed.

    Every name has a fixed position; a new one comes last, a removed one leaves a gap.  So a reader that goes on at an offset
    misses nothing and sees nothing twice, without an open handle to keep a copy for it (the kernel need not tell us when it
    opens a directory).  When the gaps outgrow the names, a new *generation* without gaps begins; readers that are in the middle
    of an old one finish it.  An offset is
    ``generation << 40 | position + 2``.
    """

    __slots__ = ("_generation", "_lists", "_positions")

    def __init__(self, names: Iterable[bytes]) -> None:
        self._generation = 0
        self._lists: dict[int, list[bytes]] = {}
        self._positions: dict[bytes, int] = {}
        self._begin(list(names))

    def _begin(self, names: list[bytes]) -> None:
        self._lists[self._generation] = names
        self._positions = {name: position for position, name in enumerate(names)}
        self._lists.pop(self._generation - _KEPT_GENERATIONS, None)

    def add(self, name: bytes) -> None:
        """``name`` is (again) in the directory."""
        names = self._lists[self._generation]
        if self._positions.setdefault(name, len(names)) == len(names):
            names.append(name)

    def compact(self, live: Callable[[], Iterable[bytes]], count: int) -> None:
        """Begin a new generation if it is worth it; ``live`` gives the ``count`` names there are.  For the start of a listing
        only."""
        if len(self._positions) > 2 * count + _WORTH_COMPACTING:
            self._generation += 1
            self._begin(list(live()))

    def start(self) -> int:
        """The offset before the first name."""
        return self._generation << _POSITION_BITS | _FIRST

    def after(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """(offset after it, name) of all names from ``offset`` on, those that are gone too."""
        generation, position = offset >> _POSITION_BITS, (offset & ((1 << _POSITION_BITS) - 1)) - _FIRST
        names = self._lists.get(generation, self._lists[self._generation])
        base = generation << _POSITION_BITS
        while position < len(names):
            name = names[position]
            position += 1
            yield base | position + _FIRST, name
