"""How much a directory takes."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from unionfs.store.drivers import Usage

_BLOCK = 512  # of st_blocks, whatever the filesystem's own blocks are: stat(2)


def disk_usage(*directories: Path) -> Usage:
    """What the directories take with all they hold; a file with several names counts once.

    A tree in use may change meanwhile: what goes is passed over.
    """
    sizes: dict[tuple[int, int], int] = {}
    pending = [os.fsencode(directory) for directory in directories]
    while pending:
        path = pending.pop()
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            sizes[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
            if stat.S_ISDIR(status.st_mode):
                pending += (os.path.join(path, name) for name in os.listdir(path))
    return Usage(sum(sizes.values()), len(sizes))
