"""Data-only layers: they are merged with nothing and show nowhere, but hold data of files whose metadata is in a lower layer.

Source: Documentation/filesystems/overlayfs.rst ("Data-only lower layers"), ``ovl_lookup_data_layers`` (fs/overlayfs/namei.c).
"""

from __future__ import annotations

import errno
import os

from unionfs.overlay import kinds
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.layer import Layer, RealDir, stat_in
from unionfs.overlay.listing import kind_of


class DataLayers:
    """The data-only layers of one union."""

    def __init__(self, layers: list[Layer], pool: FdPool) -> None:
        """``layers``: in the order in which they are asked."""
        self._layers = layers
        self._pool = pool
        self._directories: dict[tuple[Layer, bytes], RealDir] = {}

    def __bool__(self) -> bool:
        return bool(self._layers)

    def find(self, path: bytes) -> DataPlace:
        """The regular file at ``path``, from the root of the first layer that has it.

        Raises:
            OSError: none has; the error is that of the last layer.
        """
        error = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for layer in self._layers:
            try:
                return self._find_in(layer, path)
            except OSError as failed:
                error = failed
        raise error

    def _find_in(self, layer: Layer, path: bytes) -> DataPlace:
        above, _, name = path.rpartition(b"/")
        directory = self._directory(layer, above)
        st = directory.ask(self._pool, stat_in, name)
        if kind_of(st) != kinds.REG:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return DataPlace(directory, name, st.st_blocks)

    def _directory(self, layer: Layer, path: bytes) -> RealDir:
        known = self._directories.get((layer, path))
        if known is not None:
            return known
        real = layer.root
        for name in path.split(b"/")[1:]:
            kind = kind_of(real.ask(self._pool, stat_in, name))
            if kind != kinds.DIR:
                number = errno.ELOOP if kind == kinds.LNK else errno.ENOTDIR
                raise OSError(number, os.strerror(number))
            real = RealDir(layer, real, name)
        self._directories[layer, path] = real
        return real
