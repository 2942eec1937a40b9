"""Unions whose layers lie on stacking filesystems themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unionfs.linux.statfs import FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, filesystem_type

_STACKING = (OVERLAYFS_SUPER_MAGIC, FUSE_SUPER_MAGIC)


def stack_depth(layers: Iterable[Path]) -> int:
    """The ``max_stack_depth`` of passthrough that fits ``layers``.

    1 leaves room for one more stacking filesystem on top of the union; with a layer on such a filesystem (OverlayFS, or FUSE with
    passthrough, as ours) the kernel allows passthrough only with 2, which is its limit (FILESYSTEM_MAX_STACK_DEPTH).

    Raises:
        OSError: a layer cannot be opened.
    """
    return 2 if any(_type(layer) in _STACKING for layer in layers) else 1


def _type(directory: Path) -> int:
    fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        return filesystem_type(fd)
    finally:
        os.close(fd)
