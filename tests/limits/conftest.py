"""A union for each test, on the kernel's OverlayFS (the oracle) and on ours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.union import Mounted
from tests.mounts import DIRECT, KERNEL, PYFUSE3, Backend


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs: it takes attributes of 64 KiB, which ext4 does not, and unmounting it takes very deep and wide trees away."""
    directory = tmp_path / "memory"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=0", "limits", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.fixture(params=(DIRECT, PYFUSE3, KERNEL), ids=lambda backend: backend.name)
def unmounted(request: pytest.FixtureRequest, memory: Path) -> Mounted:
    """The directories of a union with one lower, which the test fills, and mounts by `tests.limits.mounted.mounting`."""
    backend: Backend = request.param
    return Mounted(backend, memory, 1)


@pytest.fixture(params=(DIRECT, PYFUSE3), ids=lambda backend: backend.name)
def unmounted_ours(request: pytest.FixtureRequest, memory: Path) -> Mounted:
    """The same, on ours only."""
    backend: Backend = request.param
    return Mounted(backend, memory, 1)
