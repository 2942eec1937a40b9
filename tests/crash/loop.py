"""Loop devices, without a program for each: there are thousands to be set up.

Source: include/uapi/linux/loop.h (``struct loop_config``); loop(4).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_AUTOCLEAR = 4
_CONFIG = struct.Struct("=I4x52xI176x64x")
"""The descriptor of the file; in its ``struct loop_info64`` the flags."""


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """A device over a file.  It goes with its last user: what is mounted from it keeps it."""
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        device, fd = _configured(file)
    finally:
        os.close(file)
    try:
        yield device
    finally:
        os.close(fd)


def _configured(file: int) -> tuple[Path, int]:
    while True:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
        finally:
            os.close(control)
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _CONFIGURE, _CONFIG.pack(file, _AUTOCLEAR))
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EBUSY:  # somebody else was faster
                raise
        else:
            return device, fd
