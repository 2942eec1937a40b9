"""Collecting all that a store has, what killed containers left included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unionfs.store.gc import Collected
    from unionfs.store.store import Store


def collect_all(store: Store) -> Collected:
    """Remove what nobody needs from ``store``."""
    from unionfs.containers.container import Containers
    from unionfs.containers.recovery import recover
    from unionfs.store.gc import collect

    # First: what a killed process mounted in staging/ must be unmounted before its directory is removed.
    recover(store, Containers(store.root, store.database))
    return collect(store, store.snapshots)
