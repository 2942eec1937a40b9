"""Marks in the work directory that forbid later mounts, ours and the kernel's: ``work/work/incompat/FEATURE``.

Source: fs/overlayfs/super.c (``ovl_create_volatile_dirty``) and fs/overlayfs/readdir.c (``ovl_workdir_cleanup_recurse``).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

INCOMPAT = "incompat"
VOLATILE = "volatile"
"""The feature of an upper that was written without making anything durable: a crash since may have cost data."""


def features(staging: Path) -> list[str]:
    """The features that forbid a mount; ``staging`` is the directory ``work`` in the one that the user named.

    Raises:
        OSError: the marks cannot be read.
    """
    try:
        return sorted(os.listdir(staging / INCOMPAT))
    except (FileNotFoundError, NotADirectoryError):
        return []


def mark_volatile(staging_fd: int) -> None:
    """Make the mark.  Whoever trusts the upper takes it away; an unmount does not, since it writes nothing out.

    Raises:
        OSError: it cannot be made.
    """
    # The kernel gives these no permissions at all; without those of the owner only root could take them away again.
    name = INCOMPAT
    for part in ("", f"/{VOLATILE}"):
        name += part
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=staging_fd)
    os.close(os.open(f"{name}/dirty", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=staging_fd))
