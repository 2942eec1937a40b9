"""/dev/fuse as a server sees it: how a request is read, and which errors of reading and writing are none."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from unionfs.fuse import wire
from unionfs.fuse.negotiation import MAX_WRITE

# fs/fuse/dev.c refuses reads into less than header, fuse_write_in and the data of the longest WRITE; a page more for names.
BUFFER_SIZE = wire.REQUEST_HEADER.size + wire.WRITE_IN.size + MAX_WRITE + 4096

NOTHING_YET = 0
ENDED = -1

NOT_AWAITED = frozenset((errno.ENOENT, errno.ENODEV, errno.ENOTCONN))
"""What a write to /dev/fuse fails with when nobody waits for it any more: ENOENT, the request was aborted or the kernel has
forgotten the node; ENODEV and ENOTCONN, the connection has ended, which the next read tells."""


def receive(fd: int, buffers: Sequence[memoryview]) -> int:
    """Read the next request into the buffers without waiting; its length, or `NOTHING_YET`, or `ENDED`."""
    try:
        return os.readv(fd, buffers)
    except BlockingIOError:
        return NOTHING_YET
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ECONNABORTED):
            return ENDED
        if error.errno == errno.ENOENT:
            # fs/fuse/dev.c: the request was interrupted before it could be read.
            return NOTHING_YET
        raise


def lacks_descriptors(error: Exception) -> bool:
    """Whether something failed for want of descriptors, in this process or on this machine; see `Filesystem.give_way`."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def was_aborted(fd: int) -> bool:
    """Whether a connection that has ended was aborted (``/sys/fs/fuse/connections/N/abort``): its mount is still there then."""
    try:
        os.read(fd, BUFFER_SIZE)
    except OSError as error:
        return error.errno == errno.ECONNABORTED
    return False
