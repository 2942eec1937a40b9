"""What the tests of sessions on real mounts share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[FakeFilesystem]:
    (tmp_path / "real").mkdir()
    fake = FakeFilesystem(tmp_path / "real")
    yield fake
    fake.close()


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "merged"
    path.mkdir()
    return path
