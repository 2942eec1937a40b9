from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "mnt"
    directory.mkdir()
    return directory


@pytest.fixture
def filesystem() -> FakeFilesystem:
    return FakeFilesystem()
