from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.linux.clone import clone_range


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A directory that can do reflinks, whatever filesystem the machine has."""
    image, mount_point = tmp_path / "image", tmp_path / "mnt"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    mount_point.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, mount_point], check=True, timeout=60)
    yield mount_point
    subprocess.run(["umount", mount_point], check=True, timeout=60)


def test_clone_has_the_bytes_and_blocks_of_its_source(btrfs: Path) -> None:
    source, target = btrfs / "source", btrfs / "target"
    source.write_bytes(b"x" * 100_000)
    with source.open("rb") as src, target.open("wb") as dst:
        clone_range(dst.fileno(), src.fileno())
    assert target.read_bytes() == source.read_bytes()
    shared = subprocess.run(["filefrag", "-v", target], check=True, capture_output=True, text=True, timeout=60)
    assert "shared" in shared.stdout


def test_clone_from_another_filesystem_is_refused(btrfs: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    with (
        (tmp_path / "source").open("rb") as src,
        (btrfs / "target").open("wb") as dst,
        pytest.raises(OSError, match="cross-device") as caught,
    ):
        clone_range(dst.fileno(), src.fileno())
    assert caught.value.errno == errno.EXDEV
