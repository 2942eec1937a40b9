"""What is left in the work directory by a union that ends well: nothing, on any filesystem."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.btrfs import btrfs
from tests.overlay.client import Client, build
from unionfs.overlay import Stack, Union

__all__ = ["btrfs"]  # the fixture


def test_work_directory_on_btrfs_is_empty_after_the_end(btrfs: Path) -> None:
    """Btrfs lists by a descriptor what was there when that was opened, or rewound, and no name that came later."""
    top = Path(tempfile.mkdtemp(dir=btrfs))
    union = Union(Stack((build(top / "lower", {"f": b"lower"}),), build(top / "upper", {}), build(top / "work", {})))
    Client(union).unlink("f")
    assert os.listdir(top / "work/work") != []  # the whiteout that all others are links to
    union.close()
    assert os.listdir(top / "work/work") == []
