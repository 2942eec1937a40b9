"""The volumes of a store."""

from __future__ import annotations

from unionfs.store.store import Store
from unionfs.volumes.drivers.local import LocalDriver
from unionfs.volumes.drivers.overlay import OverlayDriver
from unionfs.volumes.drivers.plugin.plugins import Plugins
from unionfs.volumes.drivers.selection import Drivers
from unionfs.volumes.manager import VolumeManager


def open_volumes(store: Store, plugins: Plugins | None = None) -> VolumeManager:
    """The volumes of ``store``, usable as long as that is open; ``plugins``: the foreign ones (None: those that docker finds)."""
    return VolumeManager(store.root, store.database, Drivers([LocalDriver(), OverlayDriver(store)], plugins or Plugins()))
