"""The C library, for the calls that Python's ``os`` does not have."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def last_error(filename: bytes | Path | None = None, filename2: bytes | None = None) -> OSError:
    """The error that the call of `libc` just made left in errno, as an exception to raise (of the fitting subclass)."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), filename, None, filename2)
