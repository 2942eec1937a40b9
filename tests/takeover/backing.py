"""The kernel's side of passthrough: which backing ids are registered, whichever process asks."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Any

from unionfs.fuse.protocol import IOC_BACKING_CLOSE, IOC_BACKING_OPEN
from unionfs.fuse.wire import BACKING_ID


class Backings:
    """In memory that processes share: the last id, and behind it a byte for each id."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    @property
    def registered(self) -> set[int]:
        """The ids that are."""
        return {number for number in range(1, mmap.PAGESIZE) if self._memory[number]}

    def ioctl(self, step: Callable[[str], None]) -> Callable[..., Any]:
        """What stands for ioctl(2), for the requests of a connection; ``step`` is told before anything changes."""
        other = fcntl.ioctl

        def ioctl(fd: int, request: int, *rest: Any) -> Any:
            if request == IOC_BACKING_OPEN:
                step("BACKING_OPEN")
                self._memory[0] += 1  # the kernel counts up
                self._memory[self._memory[0]] = 1
                return self._memory[0]
            if request != IOC_BACKING_CLOSE:
                return other(fd, request, *rest)
            (number,) = BACKING_ID.unpack(rest[0])
            assert number > 0, "the kernel gives EINVAL"
            if not self._memory[number]:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            step("BACKING_CLOSE")
            self._memory[number] = 0
            return 0

        return ioctl
