"""Metadata-only copies: files that have their metadata in one layer and their data in a layer below.

The attribute ``metacopy`` marks them.  The data is that of the file with the same name in the layers below, or of the one that
the file's
``redirect`` names.  Source: Documentation/filesystems/overlayfs.rst ("Metadata only copy up"), ``ovl_check_metacopy_xattr``
(util.c) and
``ovl_lookup`` (namei.c).
"""

from __future__ import annotations

import errno
import os

from unionfs.overlay import kinds
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.inode import Directory
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import kind_of
from unionfs.overlay.lower_stack import LowerStack, check_redirect
from unionfs.overlay.private_xattrs import PrivateXattrs

_SHORTEST_WITH_DIGEST = 4
_VERSION = 0


class Metacopies:
    """Finds the data of metadata-only copies."""

    def __init__(self, lower_stack: LowerStack, pool: FdPool, xattrs: PrivateXattrs) -> None:
        self._lower_stack = lower_stack
        self._pool = pool
        self._xattrs = xattrs

    def data_of(
        self, parent: Directory, name: bytes, place: RealDir, place_name: bytes, position: int
    ) -> tuple[DataPlace, bytes] | None:
        """Where the data of the regular file ``name`` of ``parent`` is, and its redirect; None if it is in the file itself.

        That is ``place_name`` in ``place``; ``position`` is that of ``place`` in ``parent.lowers``, -1 for one in the upper.

        Raises:
            OSError: EIO: the mark is not valid, or there is no data where it should be.
        """
        fd = place.open(self._pool)
        if not self._is_metacopy(fd, place_name):
            return None
        redirect = self._redirect(fd, place_name)
        where, index = redirect or name, self._lower_stack.index_of(place)
        while True:
            found = self._next(parent, where, position, index)
            if found is None:
                raise OSError(errno.EIO, f"the data of the metadata-only copy {name!r} is missing in the layers below")
            below, below_name, position = found
            index = self._lower_stack.index_of(below)
            below_fd = below.open(self._pool)
            if self._lower_stack.is_bottom(below) or not self._is_metacopy(below_fd, below_name):
                st = os.stat(below_name, dir_fd=below_fd, follow_symlinks=False)
                return DataPlace(below, below_name, st.st_blocks), redirect
            where = self._redirect(below_fd, below_name) or where

    def _next(self, parent: Directory, where: bytes, position: int, index: int) -> tuple[RealDir, bytes, int] | None:
        """The next regular file below: a path from the roots is looked for from layer ``index + 1`` on, a name in the real
        directories of ``parent`` after ``position``."""
        if where.startswith(b"/"):
            found = self._lower_stack.find_path(where, index + 1)
            return None if found is None or not self._is_regular(*found) else (*found, position)
        for deeper in range(position + 1, len(parent.lowers)):
            above = parent.lowers[deeper]
            if self._lower_stack.is_there(above, where):
                return (above, where, deeper) if self._is_regular(above, where) else None
        return None

    def _is_regular(self, place: RealDir, name: bytes) -> bool:
        return kind_of(os.stat(name, dir_fd=place.open(self._pool), follow_symlinks=False)) == kinds.REG

    def _is_metacopy(self, dir_fd: int, name: bytes) -> bool:
        value = self._xattrs.metacopy(b"/proc/self/fd/%d/%s" % (dir_fd, name))
        if value is None:
            return False
        check_metacopy(value)
        return True

    def _redirect(self, dir_fd: int, name: bytes) -> bytes:
        value = self._xattrs.redirect(b"/proc/self/fd/%d/%s" % (dir_fd, name))
        if value:
            check_redirect(value)
        return value


def check_metacopy(value: bytes) -> None:
    """EIO for a value that OverlayFS refuses: neither empty nor a header (version, length, flags, digest algorithm) with its
    digest."""
    if value and (len(value) < _SHORTEST_WITH_DIGEST or value[0] != _VERSION or value[1] != len(value)):
        raise OSError(errno.EIO, f"invalid metacopy mark {value!r}")
