"""Inode numbers that are unique in the whole union."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from unionfs.journal import records
from unionfs.journal.journal import Finished
from unionfs.journal.records import Kind

_DEVICE_SHIFT = 48
_LARGEST_REAL = (1 << _DEVICE_SHIFT) - 1
_LAST_DEVICE = 0xFFFE
_TABLED = 0xFFFF << _DEVICE_SHIFT
_OF_NODES = _TABLED | 1 << _DEVICE_SHIFT - 1
_SHORTENED = 0xF0000000
_SHORTENED_COUNT = (1 << 32) - _SHORTENED


class InoMap:
    """Maps (device, inode number) of real objects to inode numbers of the union.

    The first filesystem's numbers stay as they are; those of others get the number of their filesystem in the upper 16 bits (as
    ``xino`` of OverlayFS does with the bits that are free).  Numbers too large for that get one from a table.
    """

    def __init__(self, devices: Iterable[int]) -> None:
        """``devices``: ``st_dev`` of every layer, top first.  That order numbers the filesystems, not the order in which they are
        met, so that the same layers show the same numbers in every mount; what else is met in them (subvolumes) comes after."""
        self._bits: dict[int, int] = {}
        for device in devices:
            self._bits_of(device)
        self._table: dict[tuple[int, int], int] = {}

    def shown(self, device: int, ino: int) -> int:
        """The number shown for real object ``ino`` of ``device``."""
        bits = self._bits.get(device)
        if bits == 0 and ino <= _LARGEST_REAL:
            return ino
        if bits is None:
            bits = self._bits_of(device)
        if ino <= _LARGEST_REAL and bits < _LAST_DEVICE << _DEVICE_SHIFT:
            return bits | ino
        return self._table.setdefault((device, ino), _TABLED | len(self._table))

    def of_node(self, node: int) -> int:
        """A number for a node that no object shows."""
        return _OF_NODES | node

    def _bits_of(self, device: int) -> int:
        return self._bits.setdefault(device, min(len(self._bits), _LAST_DEVICE) << _DEVICE_SHIFT)


class ShortInoMap(InoMap):
    """The same in 32 bits, for programs that have no room for more (``ino32_t`` of fuse-overlayfs, which just cuts them off, so
    that two objects may get one number).  What is too large gets a number that is good for this mount only."""

    def __init__(self, devices: Iterable[int]) -> None:
        super().__init__(devices)
        self._shortened: dict[int, int] = {}

    def shown(self, device: int, ino: int) -> int:
        long = super().shown(device, ino)
        if long < _SHORTENED:
            return long
        return self._shorten(long)

    def of_node(self, node: int) -> int:
        return self._shorten(super().of_node(node))

    def _shorten(self, long: int) -> int:
        return self._shortened.setdefault(long, _SHORTENED + len(self._shortened) % _SHORTENED_COUNT)


class CopiedUpInos(dict[int, int]):
    """The inode numbers shown for real ones that say something else of themselves."""

    def all_current(self) -> Iterator[Finished]:
        """See `unionfs.journal.journal.Current`."""
        return (Finished(records.shown_ino(real, shown)) for real, shown in self.items())

    def current(self, kind: int, about: int) -> Finished | None:
        """See `unionfs.journal.journal.Current`."""
        shown = self.get(about) if kind == Kind.INO else None
        return None if shown is None else Finished(records.shown_ino(about, shown))
