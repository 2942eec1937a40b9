"""The volumes of a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.snapshots.killing import killed_at
from unionfs.store.store import Store
from unionfs.volumes import VolumeManager, open_volumes

__all__ = ["killed_at"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def volumes(store: Store) -> VolumeManager:
    return open_volumes(store)


def record_container(store: Store, container_id: str, *volumes: str) -> None:
    """A container that names volumes, as far as the database is concerned."""
    from unionfs.volumes import rows

    with store.database.transaction() as connection:
        connection.execute("INSERT OR IGNORE INTO images VALUES ('image', 1.0)")
        connection.execute(
            "INSERT INTO snapshots (name, kind, driver, created) VALUES (?, 'active', 'copy', 1.0)", (f"snapshot-{container_id}",)
        )
        connection.execute(
            "INSERT INTO containers VALUES (?, ?, 'image', ?, '{}', 1.0)",
            (container_id, f"name-{container_id}", f"snapshot-{container_id}"),
        )
        rows.add_references(connection, volumes, container_id)
