"""Layers that are no part of a union any more, but have files in them that are open in it."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Collection
from pathlib import Path

from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


class DetachedLayers:
    """Those of one union, held open until nobody needs them."""

    def __init__(self) -> None:
        self._layers: dict[Layer, Path | None] = {}

    def __len__(self) -> int:
        return len(self._layers)

    def add(self, layer: Layer, only_for_it: Path | None = None) -> None:
        """Keep ``layer`` open; from now on it is closed here, and the directory ``only_for_it`` is removed then."""
        self._layers[layer] = only_for_it

    def close_unused(self, tree: Tree) -> None:
        """Close those in which no inode of ``tree`` has anything any more."""
        if self._layers:
            used = set().union(*(layers_of(inode) for inode in tree.nodes))
            for layer in self._layers.keys() - used:
                layer.close()
                _remove(self._layers.pop(layer))

    def refuse_in_use(self, tree: Tree, paths: Collection[Path]) -> None:
        """EBUSY if one that is at one of ``paths`` is still needed: nothing there may be removed."""
        self.close_unused(tree)
        for layer in self._layers:
            if layer.path in paths:
                raise OSError(errno.EBUSY, "files in it are open, which were there before a rollback", str(layer.path))

    def close(self) -> None:
        """Close all."""
        for layer, directory in self._layers.items():
            layer.close()
            _remove(directory)
        self._layers.clear()


def _remove(directory: Path | None) -> None:
    if directory is not None:
        try:
            shutil.rmtree(directory)
        except OSError as error:
            # The next mount will do it (`unionfs.overlay.snapshots.Snapshots.recover`).
            _log.warning("%s could not be removed: %s", directory, error)


def layers_of(inode: Inode) -> set[Layer]:
    """The layers in which the real objects behind ``inode`` are found by name."""
    if inode.orphan_fd >= 0:
        return set()
    reals = [*inode.lowers, *([inode.upper] if inode.upper else [])] if isinstance(inode, Directory) else [inode.place]
    if isinstance(inode.data, DataPlace):
        reals.append(inode.data.place)
    return {real.layer for real in reals}
