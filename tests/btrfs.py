"""A filesystem whose subvolumes and blocks can be shared."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Btrfs, in a file."""
    directory = tmp_path_factory.mktemp("btrfs")
    image, mountpoint = directory / "image", directory / "mnt"
    mountpoint.mkdir()
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, mountpoint], check=True)
    yield mountpoint
    subprocess.run(["umount", mountpoint], check=True)
