"""Rule: what is left in the work directory, and marks there that forbid a mount.

``work/work`` holds what is being made ready; every mount, the kernel's too, empties it.  ``work/work/incompat/FEATURE`` says that
whoever does not know FEATURE must not mount (fs/overlayfs/super.c).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from unionfs.check.finding import Finding, Repair
from unionfs.overlay import kinds
from unionfs.overlay.incompat import INCOMPAT, VOLATILE
from unionfs.overlay.listing import kind_of

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def work_files(work: Path) -> Iterator[Finding]:
    """Findings ``stray-work-file``, ``volatile`` and ``incompatible``; ``work`` is the directory as a user names it."""
    staging = work / "work"
    for name in names_in(staging):
        if name == INCOMPAT:
            yield from _incompat(staging / name)
        elif not is_whiteout(staging / name):  # the kernel leaves the whiteout that it makes all others of
            yield stray(staging / name)


def stray(path: Path) -> Finding:
    """The finding for a temporary object that nobody waits for any more."""
    return Finding("stray-work-file", path, "was left behind by a crash", repair=Repair("remove it", lambda: _remove(path)))


def names_in(directory: Path) -> list[str]:
    """The names in a directory, sorted; none if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(directory, _OPEN_DIR)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)
    return []


def is_whiteout(path: Path) -> bool:
    """Whether ``path`` itself is a character device 0:0."""
    return kind_of(path.lstat()) == kinds.WHT


def _incompat(directory: Path) -> Iterator[Finding]:
    for feature in names_in(directory):
        path = directory / feature
        if feature == VOLATILE:
            problem = "the upper was mounted volatile: after a crash of the machine files may lack data"
            yield Finding("volatile", path, problem, f"use a fresh upper and work, or, if no crash happened since: rm -r {path}")
        else:
            problem = f"the upper uses the feature {feature}, which unionfs does not know"
            yield Finding("incompatible", path, problem, "mount it with the kernel's OverlayFS")


def _remove(path: Path) -> None:
    # By a descriptor of the directory, so that nobody can lead us elsewhere by a link.
    fd = os.open(path.parent, _OPEN_DIR)
    try:
        if stat.S_ISDIR(os.stat(path.name, dir_fd=fd, follow_symlinks=False).st_mode):
            shutil.rmtree(path.name, dir_fd=fd)
        else:
            os.unlink(path.name, dir_fd=fd)
    finally:
        os.close(fd)
