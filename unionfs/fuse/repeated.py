"""Answering requests that another worker has carried out: what they ask for is there, so it is looked for and not made."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from unionfs.filesystem import Caller, Entry, Filesystem, Opened, call_now
from unionfs.fuse import wire
from unionfs.fuse.direct_handlers import Operation
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.wire import RequestHeader

MAKING = {
    Opcode.MKNOD: wire.MKNOD_IN.size,
    Opcode.MKDIR: wire.MKDIR_IN.size,
    Opcode.CREATE: wire.CREATE_IN.size,
    Opcode.LINK: wire.LINK_IN.size,
    Opcode.SYMLINK: 0,
}
"""Requests that make a name, and how much stands before it in their bodies."""


class Repeated:
    """The replies to such requests, for one connection.  They count what the requests count."""

    def __init__(self, filesystem: Filesystem, operations: Mapping[int, Operation]) -> None:
        """``operations``: how requests are carried out."""
        self._filesystem = filesystem
        self._operations = operations

    def reply_to(self, header: RequestHeader, body: memoryview) -> bytes | memoryview:
        """The payload of the reply.

        Raises:
            OSError: it can be had no more.
            Blocking: the same, of a request that makes nothing: it would have to wait.
        """
        opcode = header[1]
        operation = self._operations[opcode]
        if opcode not in MAKING:
            return operation.finish(header, body, operation.call(header, body))
        entry = self._find(header[3], wire.decode_strings(body, MAKING[Opcode(opcode)], 1)[0])
        if opcode != Opcode.CREATE:
            return operation.finish(header, body, entry)
        return operation.finish(header, body, (entry, self._open(entry, header)))

    def _find(self, parent: int, name: bytes) -> Entry:
        entry = call_now(self._filesystem.lookup, parent, name)
        if entry is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(name))
        return entry

    def _open(self, entry: Entry, header: RequestHeader) -> Opened:
        try:
            # Whatever else its flags say has been done.
            return call_now(self._filesystem.open, entry.node, os.O_RDWR, Caller(header[4], header[5], header[6], 0))
        except OSError:
            self._filesystem.forget(entry.node, 1)
            raise
