from __future__ import annotations

from pathlib import Path

import pytest

from tests.pyfuse3_transport.memory_filesystem import MemoryFilesystem


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "mnt"
    directory.mkdir()
    return directory


@pytest.fixture
def filesystem() -> MemoryFilesystem:
    return MemoryFilesystem()
