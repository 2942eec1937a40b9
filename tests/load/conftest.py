"""A union for a load, on each data path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.world import DATA_PATHS, World


@pytest.fixture(params=DATA_PATHS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Small, mounted and copied."""
    world = World(tmp_path, request.param, clients=2, scale=3)
    world.mount()
    try:
        world.copy()
        yield world
    finally:
        world.close()
