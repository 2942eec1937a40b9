"""A store's root, for everything below."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def store_root(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "store"
