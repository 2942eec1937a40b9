"""A store of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def nothing_visible(store: Store) -> bool:
    """No image, no config, nothing in the making."""
    return store.images.all() == [] and store.images.blobs.all() == set() and list(store.staging.iterdir()) == []
