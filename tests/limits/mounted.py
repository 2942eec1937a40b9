"""Mounting for a part of a test, and asking the daemon who it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.behaviour.union import Mounted
from tests.mounts import run_unionfs


@contextmanager
def mounting(union: Mounted, *options: str) -> Iterator[Path]:
    """Mount ``union`` with these mount(8) words for the time of the block; yields its mount point."""
    union.options = options
    union.mount()
    try:
        yield union.merged
    finally:
        union.umount()


def daemon_of(mountpoint: Path) -> int:
    """The process that serves a mount of ours."""
    status = json.loads(run_unionfs(["status", "--json", mountpoint]))
    pid = status["pid"]
    assert isinstance(pid, int)
    return pid


def check(union: Mounted) -> None:
    """``unionfs check`` finds nothing wrong; the union is not mounted.  Raises `tests.mounts.MountFailedError` if it does."""
    layers: Sequence[str | Path] = [word for lower in union.lowers for word in ("-l", lower)]
    run_unionfs(["check", *layers, "-w", union.work, union.upper])
