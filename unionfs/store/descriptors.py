"""Descriptors that hold a lock (flock(2)), and that no process forked meanwhile keeps."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_open: set[int] = set()


def _close_all() -> None:
    """The lock belongs to the open file, not to the process: the daemon of a mount that is made while one is held would keep it
    for as long as it lives."""
    for fd in _open:
        os.close(fd)
    _open.clear()


os.register_at_fork(after_in_child=_close_all)


@contextlib.contextmanager
def opened_alone(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of ``path`` that is closed at the end, and at once in a process that is forked.

    Raises:
        OSError: as open(2).
    """
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    _open.add(fd)
    try:
        yield fd
    finally:
        if fd in _open:  # not so in a forked process, where the number may have come to mean something else
            _open.discard(fd)
            os.close(fd)
