"""Doing without a capability: capset(2).

Source: include/uapi/linux/capability.h.
"""

from __future__ import annotations

import ctypes
import struct

from unionfs.linux.libc import last_error, libc

_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_DATA = struct.Struct("=6I")  # effective, permitted, inheritable; the lower 32 capabilities, then the upper ones


def renounce(capability: int) -> None:
    """Take capability ``capability`` (``CAP_*``) out of the effective set of this thread, and so of all threads that it starts
    from now on; those that run already keep theirs.

    Raises:
        OSError: EPERM (a filter of system calls).
    """
    header = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0), _HEADER.size)
    data = ctypes.create_string_buffer(_DATA.size)
    if libc.capget(header, data):
        raise last_error()
    sets = list(_DATA.unpack(data.raw))
    sets[capability // 32 * 3] &= ~(1 << capability % 32)
    if libc.capset(header, ctypes.create_string_buffer(_DATA.pack(*sets), _DATA.size)):
        raise last_error()
