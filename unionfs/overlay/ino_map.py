"""Inode numbers that are unique in the whole union."""

from __future__ import annotations

_DEVICE_SHIFT = 48
_LARGEST_REAL = (1 << _DEVICE_SHIFT) - 1
_LAST_DEVICE = 0xFFFE
_TABLED = 0xFFFF << _DEVICE_SHIFT


class InoMap:
    """Maps (device, inode number) of real objects to inode numbers of the union.

    The main filesystem's numbers stay as they are; those of others get the number of their filesystem in the upper 16 bits (as
    ``xino`` of OverlayFS does with the bits that are free).  Numbers too large for that get one from a table.
    """

    def __init__(self, main_device: int) -> None:
        """``main_device``: ``st_dev`` of the filesystem whose numbers are shown as they are."""
        self._bits = {main_device: 0}
        self._table: dict[tuple[int, int], int] = {}

    def shown(self, device: int, ino: int) -> int:
        """The number shown for real object ``ino`` of ``device``."""
        bits = self._bits.get(device)
        if bits == 0 and ino <= _LARGEST_REAL:
            return ino
        if bits is None:
            bits = self._bits[device] = min(len(self._bits), _LAST_DEVICE) << _DEVICE_SHIFT
        if ino <= _LARGEST_REAL and bits < _LAST_DEVICE << _DEVICE_SHIFT:
            return bits | ino
        return self._table.setdefault((device, ino), _TABLED | len(self._table))
