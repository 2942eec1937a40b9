"""The directory that is about to become the upper of a union in use, opened, with an index of its own."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.linux.rename import RENAME_EXCHANGE, renameat2
from unionfs.overlay.index import Index
from unionfs.overlay.layer import Layer, open_upper
from unionfs.overlay.origin import Origins
from unionfs.overlay.snapshots import Staged
from unionfs.overlay.tree import Tree

_INDEX = b"index"
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NewUpper:
    """The upper that ``staged`` has made ready for ``tree``.

    Attributes:
        layer: the layer; it has the path that it will have.
        index: its index of hard links, empty; None where the union has none.
    """

    def __init__(self, tree: Tree, staged: Staged) -> None:
        """Open it, without an index.

        Raises:
            OSError: it cannot be opened.
        """
        self._tree = tree
        self._staged = staged
        old = tree.upper_layer
        self.layer = open_upper(staged.upper)
        self.layer.path = old.path
        self.layer.override, self.layer.is_idmapped = old.override, old.is_idmapped
        self.layer.generation = old.generation + 1
        self.index: Index | None = None

    def make_index(self, lowers: list[Layer]) -> None:
        """Give it an index over ``lowers``, if the union has one.

        Raises:
            OSError: what mkdir(2) and setxattr(2) give.
        """
        if self._tree.index is None:
            return
        origins, xattrs = Origins(lowers, self.layer), self._tree.xattrs
        index = self.index = Index(self._staged.directory, self.layer, lowers, origins, xattrs, top_lower=lowers[0])
        index.place.layer.override, index.place.layer.generation = self.layer.override, self.layer.generation

    def put_index_in_place(self) -> None:
        """Let the index be that of the work directory; the one that was there is among what is staged from then on.

        Raises:
            OSError: what rename(2) gives.
        """
        if self.index is None:
            return
        base = os.open(b"..", _OPEN_DIR, dir_fd=self._tree.work.fd)
        try:
            staged = os.open(self._staged.directory, _OPEN_DIR)
            try:
                renameat2(staged, _INDEX, base, _INDEX, RENAME_EXCHANGE)
            finally:
                os.close(staged)
        finally:
            os.close(base)
        self.index.place.layer.path = Path(os.readlink(f"/proc/self/fd/{self.index.place.fd}"))

    def close(self) -> None:
        """It shall not be."""
        self.layer.close()
        if self.index is not None:
            self.index.close()
