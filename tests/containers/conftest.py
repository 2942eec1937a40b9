"""A store with one image, ``box``, for each test that runs containers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    if os.geteuid() != 0 or shutil.which("runc") is None or not Path("/bin/busybox").exists():
        pytest.skip("containers need root, runc and busybox-static")
    running = Engine(tmp_path / "store")
    running.add_image("box")
    yield running
    running.end_all()
