"""Holding the directories of a union that is not mounted, so that nobody mounts it in the meantime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.checks import check_directory, check_not_in_overlay, default_work
from unionfs.mounter.locks import locked


@contextlib.contextmanager
def unmounted(upper: Path, work: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Upper and work directory, absolute and free of symbolic links.  Without ``work`` it is the one that a mount would choose,
    if there is one.

    Raises:
        RefusedError: one of them is no directory, or in use by a union or a kernel OverlayFS.
        OSError: as `unionfs.mounter.locks.locked`.
    """
    upper = check_directory("upper", upper)
    if work is None and default_work(upper).is_dir():
        work = default_work(upper)
    used = {"upper": upper}
    if work is not None:
        used["work"] = work = check_directory("work", work)
    check_not_in_overlay(used, read_mountinfo())
    with contextlib.ExitStack() as locks:
        for directory in used.values():
            locks.enter_context(locked(directory))
        yield upper, work
