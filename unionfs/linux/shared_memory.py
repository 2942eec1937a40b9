"""mmap(2) of a file without a descriptor of its own: Python's ``mmap`` keeps one, and closes that number whatever it is then."""

from __future__ import annotations

import mmap
from ctypes import c_char, c_int, c_int64, c_size_t, c_void_p

from unionfs.linux.libc import last_error, libc

_mmap = libc.mmap64
_mmap.restype = c_void_p
_mmap.argtypes = (c_void_p, c_size_t, c_int, c_int, c_int, c_int64)
_munmap = libc.munmap
_munmap.argtypes = (c_void_p, c_size_t)
_FAILED = c_void_p(-1).value


class SharedMemory:
    """A part of a file as ``view`` (bytes that can be written), shared with all who map it, until it is given up."""

    def __init__(self, fd: int, offset: int, length: int, *, populate: bool = False) -> None:
        """``offset``: a multiple of the page size; the file is at least ``length`` bytes longer.

        ``populate``: make all of it there at once, for it will be used to its end: a fault for each page takes several times as
        long.

        Raises:
            OSError: as mmap(2).
        """
        flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
        address = _mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
        if address is None or address == _FAILED:
            raise last_error()
        self._address, self._length = address, length
        self.view = memoryview((c_char * length).from_address(address)).cast("B")

    def close(self) -> None:
        """Give it up; ``view`` must not be used any more."""
        _munmap(self._address, self._length)
