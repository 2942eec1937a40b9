"""All of a store in one."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from unionfs.store.database import Database
from unionfs.store.drivers.selection import choose_driver
from unionfs.store.images import Images
from unionfs.store.layers import Layers
from unionfs.store.location import store_root
from unionfs.store.snapshotter import Snapshotter

_PRIVATE = ("layers", "blobs", "staging", "locks")
"""Layers hold set-id programs of any age, which nobody else shall reach by a path."""


class Store:
    """The store at ``root``, which is made where it is not there.  Each thread needs one of its own."""

    def __init__(self, root: Path) -> None:
        """Open it.

        Raises:
            StoreError: the database cannot be used.
            OSError: the directories cannot be made.
        """
        self.root = root
        self.database = Database(root)
        try:
            for name in _PRIVATE:
                (root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError:
            self.database.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the database back."""
        self.database.close()

    @property
    def staging(self) -> Path:
        """Where things are made."""
        return self.root / "staging"

    @functools.cached_property
    def layers(self) -> Layers:
        """Its layers."""
        return Layers(self.root, self.database)

    @functools.cached_property
    def images(self) -> Images:
        """Its images."""
        return Images(self.root, self.database)

    @functools.cached_property
    def snapshots(self) -> Snapshotter:
        """Its snapshots, with the driver that UNIONFS_DRIVER names for new ones.

        Raises:
            StoreError: there is no such driver.
        """
        return Snapshotter(self.root, self.database, self.layers, choose_driver())


def open_store(given: Path | None = None) -> Store:
    """The store at ``given`` (``--root``), else where `unionfs.store.location` says.

    Raises:
        StoreError, OSError: as `Store`.
    """
    return Store(Path(os.fspath(store_root(given))))
