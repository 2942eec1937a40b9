"""Offsets of directory listings that stay good while names come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from unionfs.journal import records

# An offset is generation << 50 | end << 25 | position + 2: a positive loff_t.
_FIRST = 2  # offsets 1 and 2 stand behind "." and "..", which are not kept here
_BITS = 25
_MASK = (1 << _BITS) - 1
_LARGEST = _MASK - _FIRST
_GENERATIONS = 1 << 12
_KEPT_GENERATIONS = 4
_WORTH_COMPACTING = 1024


class ListingOrder:
    """The order in which the names of one directory are listed.

    Every name has a fixed position; a new one comes last, a removed one leaves a gap.  So a reader that goes on at an offset
    misses nothing and sees nothing twice, without an open handle to keep a copy for it (the kernel need not tell us when it
    opens a directory).  The offset also says where the list ended when the reader began: it does not see what was added since,
    or a program that makes a file for every file it reads would never come to an end.

    When the gaps outgrow the names, a new *generation* without gaps begins; readers in the middle of an old one finish it.
    """

    __slots__ = ("_generation", "_lists", "_positions", "is_kept")

    def __init__(self, names: Iterable[bytes]) -> None:
        self.is_kept = False
        """Whether the journal has it: that of a directory that was in lower layers alone can be found again in these, for as long
        as no name was added."""
        self._generation = 0
        self._lists: dict[int, list[bytes]] = {}
        self._positions: dict[bytes, int] | None = None
        self._begin(list(names))

    def _begin(self, names: list[bytes]) -> None:
        self._lists[self._generation] = names
        # Of most directories it is never asked where a name stands.
        self._positions = None
        self._lists.pop((self._generation - _KEPT_GENERATIONS) % _GENERATIONS, None)

    @classmethod
    def restored(cls, lists: Mapping[int, list[bytes]]) -> ListingOrder:
        """One as another worker kept it: names by generation, the newest last."""
        order = cls(())
        order._lists = dict(lists)
        order._generation = next(reversed(order._lists))
        order.is_kept = True
        return order

    def record(self, directory: int) -> bytes:
        """What the journal keeps of it: the order of the directory with that node id."""
        return b"".join([records.order(directory, generation, names) for generation, names in self._lists.items()])

    def listed(self, directory: int, name: bytes) -> bytes:
        """What the journal keeps of a name that was added just now."""
        return records.listed(directory, self._generation, name)

    def add(self, name: bytes) -> bool:
        """``name`` is (again) in the directory; whether that makes the list longer."""
        names = self._lists[self._generation]
        if self._positions is None:
            self._positions = {known: position for position, known in enumerate(names)}
        if self._positions.setdefault(name, len(names)) < len(names):
            return False
        names.append(name)
        return True

    def compact(self, live: Callable[[], Iterable[bytes]], count: int) -> bool:
        """Begin a new generation if it is worth it, and say whether it was; ``live`` gives the names there are, about ``count``.
        For the start of a listing only."""
        if len(self._lists[self._generation]) <= 2 * count + _WORTH_COMPACTING:
            return False
        self._generation = (self._generation + 1) % _GENERATIONS
        self._begin(list(live()))
        return True

    def start(self) -> int:
        """The offset before the first name, for a listing that begins now.

        Raises:
            OverflowError: more names than an offset can count (33 million).
        """
        end = len(self._lists[self._generation])
        if end > _LARGEST:
            raise OverflowError(f"a directory of {end} names cannot be listed")
        return (self._generation << _BITS | end) << _BITS | _FIRST

    def after(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """(offset after it, name) of all names from ``offset`` on, those that are gone too."""
        base = offset & ~_MASK
        end = offset >> _BITS & _MASK
        names = self._lists.get(offset >> 2 * _BITS, self._lists[self._generation])
        for position in range((offset & _MASK) - _FIRST, min(end, len(names))):
            yield base | position + 1 + _FIRST, names[position]
