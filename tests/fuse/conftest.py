"""What the tests of sessions on real mounts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem


@pytest.fixture
def filesystem(tmp_path: Path) -> FakeFilesystem:
    (tmp_path / "real").mkdir()
    return FakeFilesystem(tmp_path / "real")


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "merged"
    path.mkdir()
    return path
