"""Metadata-only copies: files that have their metadata in one layer and their data in a layer below.

The attribute ``metacopy`` marks them.  The data is that of the file with the same name in the layers below, or of the one that
the file's ``redirect`` names; if that is a path that no layer below has, it is in a data-only layer.  Source:
Documentation/filesystems/overlayfs.rst ("Metadata only copy up", "Data-only lower layers"), ``ovl_check_metacopy_xattr`` (util.c)
and ``ovl_lookup`` (namei.c).
"""

from __future__ import annotations

import errno
import os

from unionfs.overlay import kinds
from unionfs.overlay.data_layers import DataLayers
from unionfs.overlay.data_place import Data, DataPlace, SoughtData
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.inode import Directory
from unionfs.overlay.layer import Layer, RealDir, at, stat_in
from unionfs.overlay.listing import kind_of
from unionfs.overlay.lower_stack import LowerStack, check_redirect
from unionfs.overlay.private_xattrs import PrivateXattrs

_SHORTEST_WITH_DIGEST = 4
_VERSION = 0


class Metacopies:
    """Finds the data of metadata-only copies."""

    def __init__(
        self,
        lower_stack: LowerStack,
        data_layers: DataLayers,
        pool: FdPool,
        xattrs: PrivateXattrs,
        follow_redirects: bool,
        former_uppers: frozenset[Layer],
    ) -> None:
        """``follow_redirects``: without it the only way that is followed is from the bottom layer to a data-only one.
        ``former_uppers``: the lower layers that may have been the upper of a union (`was_upper`)."""
        self._former_uppers = former_uppers
        self._lower_stack = lower_stack
        self._data_layers = data_layers
        self._pool = pool
        self._xattrs = xattrs
        self._follow = follow_redirects

    def may_be(self, place: RealDir) -> bool:
        """Whether a lower directory may hold metadata-only copies.

        What copies up marks the directory.  OverlayFS does not mark the one that a copy without origin is moved or linked to
        (``ovl_rename`` in fs/overlayfs/dir.c asks for the origin), and whoever makes layers for data-only ones (mkcomposefs)
        need not mark any.
        """
        return place.impure or bool(self._data_layers) or place.layer in self._former_uppers

    def data_of(
        self, parent: Directory, name: bytes, place: RealDir, place_name: bytes, position: int
    ) -> tuple[Data, bytes] | None:
        """Where the data of the regular file ``name`` of ``parent`` is, and its redirect; None if it is in the file itself.

        That is ``place_name`` in ``place``; ``position`` is that of ``place`` in ``parent.lowers``, -1 for one in the upper.

        Raises:
            OSError: EIO: the mark is not valid, or there is no data where it should be; EPERM: the way there is not followed.
        """
        if not self._is_metacopy(place, place_name):
            return None
        redirect = last_redirect = self._redirect(place, place_name)
        where, below = redirect or name, place
        while True:
            if not self._follow and not self._lower_stack.is_bottom(below):
                raise OSError(errno.EPERM, f"the metadata-only copy {name!r} is not followed without redirects")
            index = self._lower_stack.index_of(below)
            found = self._next(parent, where, position, index)
            if found is None:
                # The kernel asks data-only layers on behalf of a lower file only, and for a path.
                if self._data_layers and index >= 0 and last_redirect.startswith(b"/"):
                    st = place.ask(self._pool, stat_in, place_name)
                    return SoughtData(last_redirect, guess_blocks(st)), redirect
                if not self._follow:
                    raise OSError(errno.EPERM, f"the metadata-only copy {name!r} leads to no data-only layer")
                raise OSError(errno.EIO, f"the data of the metadata-only copy {name!r} is missing in the layers below")
            below, below_name, position, where = found
            if not self._is_metacopy(below, below_name):
                return DataPlace(below, below_name, below.ask(self._pool, stat_in, below_name).st_blocks), redirect
            last_redirect = self._redirect(below, below_name)
            if last_redirect and where.startswith(b"/") and not last_redirect.startswith(b"/"):
                # Beside where that was found, which need not be in a directory that ``parent`` merges.
                where = where.rpartition(b"/")[0] + b"/" + last_redirect
            else:
                where = last_redirect or where

    def find(self, data: SoughtData) -> DataPlace:
        """Ask the data-only layers.

        Raises:
            OSError: ENOENT: none has it; others of the last one.
        """
        return self._data_layers.find(data.path)

    def _next(self, parent: Directory, where: bytes, position: int, index: int) -> tuple[RealDir, bytes, int, bytes] | None:
        """The next regular file below, and where to look after that: a path from the roots is looked for from layer ``index + 1``
        on, a name in the real directories of ``parent`` after ``position``."""
        if where.startswith(b"/"):
            found = self._lower_stack.find_path(where, index + 1)
            if found is None or not self._is_regular(found[0], found[1]):
                return None
            return found[0], found[1], position, found[2]
        for deeper in range(position + 1, len(parent.lowers)):
            above = parent.lowers[deeper]
            if self._lower_stack.is_there(above, where):
                return (above, where, deeper, where) if self._is_regular(above, where) else None
        return None

    def _is_regular(self, place: RealDir, name: bytes) -> bool:
        return kind_of(place.ask(self._pool, stat_in, name)) == kinds.REG

    def _is_metacopy(self, place: RealDir, name: bytes) -> bool:
        value = place.ask(self._pool, at, name, self._xattrs.metacopy)
        if value is None:
            return False
        check_metacopy(value)
        return True

    def _redirect(self, place: RealDir, name: bytes) -> bytes:
        value: bytes = place.ask(self._pool, at, name, self._xattrs.redirect)
        if value:
            check_redirect(value)
        return value


def was_upper(layer: Layer, xattrs: PrivateXattrs) -> bool:
    """Whether a layer may have been the upper of a union: its root has attributes of one.

    OverlayFS gives each upper its ``uuid`` (since Linux 6.6), and marks the root as impure when something in it is copied up.
    """
    try:
        names = os.listxattr(b"/proc/self/fd/%d/." % layer.root.fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise
    return any(xattrs.is_private(os.fsencode(name)) for name in names)


def guess_blocks(st: os.stat_result) -> int:
    # As in ovl_getattr (fs/overlayfs/inode.c): stat(2) alone does not make it look for the data.
    return -(-st.st_size // st.st_blksize) * st.st_blksize // 512


def check_metacopy(value: bytes) -> None:
    """EIO for a value that OverlayFS refuses: neither empty nor a header (version, length, flags, digest algorithm) with its
    digest."""
    if value and (len(value) < _SHORTEST_WITH_DIGEST or value[0] != _VERSION or value[1] != len(value)):
        raise OSError(errno.EIO, f"invalid metacopy mark {value!r}")
