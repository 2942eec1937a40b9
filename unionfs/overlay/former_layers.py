"""Objects without a name that lie in no layer of the union any more, found again by another worker: in a layer that a rollback
left, or where a merge of snapshots has kept them."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from unionfs.journal.recovered import NodeState
from unionfs.overlay.detached_layers import DetachedLayers
from unionfs.overlay.layer import Layer, open_lower
from unionfs.overlay.snapshots import Snapshots
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


class FormerLayers:
    """The layers that a union had."""

    def __init__(self, tree: Tree, detached: DetachedLayers) -> None:
        """``detached`` gets those that are still needed."""
        self._detached = detached
        self._snapshots = None if tree.upper is None else Snapshots(tree.upper.path, tree.xattrs)
        self._kept = [] if self._snapshots is None else self._snapshots.kept_directories()
        self._opened: dict[Path, Layer] = {}

    def find(self, node: int, state: NodeState) -> tuple[Layer, bytes] | None:
        """The layer that has the object of ``node`` now, and its path in there; None: none has it.

        Raises:
            OSError: the layer cannot be opened.
        """
        return self._find(b"%d" % node, state.layer, state.path)

    def find_data(self, node: int, state: NodeState) -> tuple[Layer, bytes] | None:
        """The same for its data, where that is elsewhere."""
        return self._find(b"%d.data" % node, state.data_layer, state.data_path)

    def _find(self, kept_as: bytes, recorded_layer: bytes, path: bytes) -> tuple[Layer, bytes] | None:
        for directory in self._kept:
            # Whoever died in the middle of a merge has written down where it was before.
            if os.path.lexists(directory / os.fsdecode(kept_as)):
                return self._open(directory, directory), kept_as
        layer = Path(os.fsdecode(recorded_layer))
        if not recorded_layer or not os.path.lexists(layer / os.fsdecode(path)):
            return None
        return self._open(layer, None), path

    def _open(self, path: Path, only_for_it: Path | None) -> Layer:
        layer = self._opened.get(path)
        if layer is None:
            layer = self._opened[path] = open_lower(0, path)
            layer.is_snapshot = self._snapshots is not None and path.is_relative_to(self._snapshots.directory)
            self._detached.add(layer, only_for_it)
        return layer

    def remove_unused(self) -> None:
        """All have been found: what was kept for others can go."""
        for directory in self._kept:
            if directory not in self._opened:
                try:
                    shutil.rmtree(directory)
                except OSError as error:
                    # The next mount will do it (`unionfs.overlay.snapshots.Snapshots.recover`).
                    _log.warning("%s could not be removed: %s", directory, error)
