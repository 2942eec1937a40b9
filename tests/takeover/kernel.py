"""What the kernel is to a server: it sends requests, remembers what the replies tell it, and sends again what was not answered.

The methods are those of `unionfs.filesystem.Filesystem` that a request asks for, so `tests.overlay.client.Client` can use it in
the place of a union.  With the cached data path no file is opened by a request.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from unionfs.filesystem import ROOT_ID, SET_SIZE, Attr, Caller, Changes, DirRow, Entry, Opened
from unionfs.fuse import wire
from unionfs.fuse.protocol import NotifyCode, Opcode, OpenFlag
from unionfs.journal.storage import RESENT
from unionfs.linux.rename import RENAME_EXCHANGE

REPORT = Opcode.BMAP
"""No union serves it; the workers of `tests.takeover.worker` answer what they know."""

PAGE = 4096
"""Bytes of a directory listing that are asked for at a time."""

_SECOND = 10**9
_ATTRS = len(Attr._fields)
_NOBODY = Caller(0, 0, 1, 0o022)


class Answer(NamedTuple):
    """A request and what became of it: ``error`` is an errno, 0 for success."""

    opcode: Opcode
    error: int
    payload: bytes


class Connection(NamedTuple):
    """The way to whoever serves: ``send`` a message; ``receive`` the next one, None when nobody serves any more; ``replace`` who
    served then; whether what was sent last ``is_unread``."""

    send: Callable[[bytes], None]
    receive: Callable[[], bytes | None]
    replace: Callable[[], None]
    is_unread: Callable[[], bool]


class Kernel:
    """One mount.

    Attributes:
        answers: to all requests so far, in their order.
        nlookup: by node id, how often each was looked up.
        notified: the codes of all messages that answered nothing.
        resent: how many requests were sent again.
        forgotten: nodes of FORGETs, which a worker may have read but not written down.
    """

    def __init__(self, connection: Connection, opens: bool = False) -> None:
        """``opens``: files are opened by requests, for passthrough."""
        self._connection = connection
        self._opens = opens
        self._backing: dict[int, list[int]] = {}
        self._unique = 0
        self.answers: list[Answer] = []
        self.nlookup: Counter[int] = Counter()
        self.notified: list[NotifyCode] = []
        self.resent = 0
        self.forgotten: set[int] = set()

    # -- requests ---------------------------------------------------------------------------------------------------------

    def request(self, opcode: Opcode, node: int, body: bytes = b"", caller: Caller = _NOBODY) -> bytes:
        """Send a request, wait for the reply, and give its payload.

        Raises:
            OSError: what it is answered.
        """
        self._unique += 2
        self._send(self._unique, opcode, node, body, caller)
        reply, was_read = self._receive(self._unique), False
        while reply is None:
            # What was not read stays where it is, and is no request that is sent again (fs/fuse/dev.c, fuse_resend).
            was_read = was_read or not self._connection.is_unread()
            self._connection.replace()
            if was_read:
                if self._receive(0) is None:
                    continue
                self.resent += 1
                self._send(self._unique | RESENT, opcode, node, body, caller)
                was_read = False
            reply = self._receive(self._unique)
        error, payload = reply
        self.answers.append(Answer(opcode, error, payload))
        if error:
            raise OSError(error, os.strerror(error))
        return payload

    def tell(self, opcode: Opcode, node: int, body: bytes) -> None:
        """Send a request that gets no reply."""
        self._unique += 2
        self._send(self._unique, opcode, node, body, _NOBODY)

    def _send(self, unique: int, opcode: Opcode, node: int, body: bytes, caller: Caller) -> None:
        size = wire.REQUEST_HEADER.size + len(body)
        self._connection.send(wire.REQUEST_HEADER.pack(size, opcode, unique, node, caller.uid, caller.gid, caller.pid, 0) + body)

    def _receive(self, wanted: int) -> tuple[int, bytes] | None:
        """(errno, payload) of the reply to the request ``wanted``; 0: wait until all requests are to be sent again.  None: nobody
        serves any more."""
        while (message := self._connection.receive()) is not None:
            size, error, unique = wire.REPLY_HEADER.unpack_from(message)
            assert size == len(message)
            if unique:
                assert unique & ~RESENT == wanted, f"reply to {unique}, which nobody waits for"
                return -error, message[wire.REPLY_HEADER.size :]
            self.notified.append(NotifyCode(error))
            if not wanted and self.notified[-1] is NotifyCode.RESEND:
                return 0, b""
        return None

    def _entry(self, payload: bytes) -> Entry:
        node, *rest = wire.ENTRY_OUT.unpack_from(payload)
        self.nlookup[node] += 1
        return Entry(node, Attr(*rest[-_ATTRS:]))

    @staticmethod
    def _attr(payload: bytes) -> Attr:
        return Attr(*wire.ATTR_OUT.unpack(payload)[-_ATTRS:])

    # -- nodes ------------------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        payload = self.request(Opcode.LOOKUP, parent, name + b"\0")
        return self._entry(payload) if wire.NODE_ID.unpack_from(payload)[0] else None

    def forget(self, node: int, nlookup: int) -> None:
        self._take_lookups(node, nlookup)
        self.forgotten.add(node)
        self.tell(Opcode.FORGET, node, wire.FORGET_IN.pack(nlookup))

    def forget_all(self) -> None:
        """Forget every node."""
        nodes = list(self.nlookup.items())
        body = b"".join(wire.FORGET_ONE.pack(*node) for node in nodes)
        self.nlookup.clear()
        self.tell(Opcode.BATCH_FORGET, 0, wire.BATCH_FORGET_IN.pack(len(nodes)) + body)

    def _take_lookups(self, node: int, nlookup: int) -> None:
        self.nlookup[node] -= nlookup
        if not self.nlookup[node]:
            del self.nlookup[node]

    def getattr(self, node: int) -> Attr:
        return self._attr(self.request(Opcode.GETATTR, node, bytes(16)))

    def setattr(self, node: int, changes: Changes, caller: Caller = _NOBODY) -> Attr:
        atime, mtime = divmod(changes.atime_ns, _SECOND), divmod(changes.mtime_ns, _SECOND)
        seconds = (atime[0], mtime[0], 0, atime[1], mtime[1], 0)
        body = wire.SETATTR_IN.pack(
            changes.valid, 0, changes.size, 0, *seconds, changes.mode, changes.uid & 0xFFFFFFFF, changes.gid & 0xFFFFFFFF
        )
        return self._attr(self.request(Opcode.SETATTR, node, body, caller))

    def readlink(self, node: int) -> bytes:
        return self.request(Opcode.READLINK, node)

    # -- names ------------------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        body = wire.MKNOD_IN.pack(mode, rdev, caller.umask) + name + b"\0"
        return self._entry(self.request(Opcode.MKNOD, parent, body, caller))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        return self._entry(self.request(Opcode.MKDIR, parent, wire.MKDIR_IN.pack(mode, caller.umask) + name + b"\0", caller))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        return self._entry(self.request(Opcode.SYMLINK, parent, name + b"\0" + target + b"\0", caller))

    def link(self, node: int, parent: int, name: bytes) -> Entry:
        return self._entry(self.request(Opcode.LINK, parent, wire.LINK_IN.pack(node) + name + b"\0"))

    def unlink(self, parent: int, name: bytes) -> None:
        self.request(Opcode.UNLINK, parent, name + b"\0")

    def rmdir(self, parent: int, name: bytes) -> None:
        self.request(Opcode.RMDIR, parent, name + b"\0")

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        names = name + b"\0" + new_name + b"\0"
        if flags:
            self.request(Opcode.RENAME2, parent, wire.RENAME2_IN.pack(new_parent, flags) + names)
        else:
            self.request(Opcode.RENAME, parent, wire.RENAME_IN.pack(new_parent) + names)

    def exchange(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """Let two names change places."""
        self.rename(parent, name, new_parent, new_name, RENAME_EXCHANGE)

    # -- file contents ----------------------------------------------------------------------------------------------------

    def open(self, node: int, flags: int, caller: Caller = _NOBODY) -> Opened:
        """With the cached data path no request but for O_TRUNC (`unionfs.fuse.negotiation`)."""
        if self._opens:
            self._opened(node, self.request(Opcode.OPEN, node, wire.OPEN_IN.pack(flags, 0), caller))
        elif flags & os.O_TRUNC:
            self.setattr(node, Changes(SET_SIZE, size=0), caller)
        return Opened(0)

    def _opened(self, node: int, payload: bytes) -> None:
        _, flags, backing_id = wire.OPEN_OUT.unpack(payload)
        opens = self._backing.setdefault(node, [])
        # fs/fuse/iomode.c, fuse_inode_uncached_io_start: anything else makes the open fail with EIO.
        assert set(opens) <= {backing_id}, f"node {node} is open as {opens[0]}, and now as {backing_id}"
        assert bool(flags & OpenFlag.PASSTHROUGH) == (backing_id != 0)
        opens.append(backing_id)

    def release(self, node: int) -> None:
        """Close one of the opens of a node."""
        self._backing[node].pop()
        self.request(Opcode.RELEASE, node, bytes(24))

    def create(self, parent: int, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        body = wire.CREATE_IN.pack(flags | os.O_CREAT, mode, caller.umask, 0) + name + b"\0"
        return self._made(self.request(Opcode.CREATE, parent, body, caller))

    def _made(self, payload: bytes) -> tuple[Entry, Opened]:
        entry = self._entry(payload)
        if self._opens:
            self._opened(entry.node, payload[wire.ENTRY_OUT.size :])
        return entry, Opened(0)

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        body = wire.CREATE_IN.pack(os.O_RDWR, mode, caller.umask, 0) + b"/\0"
        return self._made(self.request(Opcode.TMPFILE, parent, body, caller))

    def read(self, node: int, offset: int, size: int) -> bytes:
        return self.request(Opcode.READ, node, wire.READ_IN.pack(offset, size))

    def write(self, node: int, offset: int, data: bytes, write_flags: int = 0) -> int:
        payload = self.request(Opcode.WRITE, node, wire.WRITE_IN.pack(offset, len(data), write_flags) + data)
        return int(wire.WRITE_OUT.unpack(payload)[0])

    def fallocate(self, node: int, offset: int, length: int, mode: int) -> None:
        self.request(Opcode.FALLOCATE, node, wire.FALLOCATE_IN.pack(offset, length, mode))

    def copy_file_range(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        body = wire.COPY_FILE_RANGE_IN.pack(source_offset, target, target_offset, length, 0)
        return int(wire.WRITE_OUT.unpack(self.request(Opcode.COPY_FILE_RANGE, source, body))[0])

    def fsync(self, node: int, datasync: bool) -> None:
        self.request(Opcode.FSYNC, node, wire.FSYNC_IN.pack(datasync))

    # -- directories ------------------------------------------------------------------------------------------------------

    def readdir_page(self, node: int, offset: int, size: int = PAGE) -> list[DirRow]:
        """What one READDIR gives."""
        payload, rows, at = self.request(Opcode.READDIR, node, wire.READ_IN.pack(offset, size)), [], 0
        while at < len(payload):
            ino, after, length, kind = wire.DIRENT.unpack_from(payload, at)
            at += wire.DIRENT.size
            rows.append(DirRow(payload[at : at + length], ino, kind, after, None))
            at += length + wire.padding(length)
        return rows

    def readdirplus_page(self, node: int, offset: int, size: int = PAGE) -> list[DirRow]:
        """What one READDIRPLUS gives."""
        payload = self.request(Opcode.READDIRPLUS, node, wire.READ_IN.pack(offset, size))
        rows = decode_readdirplus(payload)
        for row in rows:
            if row.entry is not None:
                self.nlookup[row.entry.node] += 1
        return rows

    def readdir(self, node: int, offset: int) -> Iterator[DirRow]:
        while rows := self.readdir_page(node, offset):
            yield from rows
            offset = rows[-1].offset

    def readdirplus(self, node: int, offset: int) -> Iterator[DirRow]:
        while rows := self.readdirplus_page(node, offset):
            yield from rows
            offset = rows[-1].offset

    # -- extended attributes ----------------------------------------------------------------------------------------------

    def getxattr(self, node: int, name: bytes) -> bytes:
        return self.request(Opcode.GETXATTR, node, wire.GETXATTR_IN.pack(1 << 16) + name + b"\0")

    def listxattr(self, node: int, caller: Caller) -> list[bytes]:
        return self.request(Opcode.LISTXATTR, node, wire.GETXATTR_IN.pack(1 << 16), caller).split(b"\0")[:-1]

    def setxattr(self, node: int, name: bytes, value: bytes, flags: int) -> None:
        self.request(Opcode.SETXATTR, node, wire.SETXATTR_IN.pack(len(value), flags, 0, 0) + name + b"\0" + value)

    def removexattr(self, node: int, name: bytes) -> None:
        self.request(Opcode.REMOVEXATTR, node, name + b"\0")

    @property
    def nodes(self) -> list[int]:
        """All that are known, the root first."""
        return [ROOT_ID, *self.nlookup]


def decode_readdirplus(payload: bytes) -> list[DirRow]:
    """The rows of a reply to READDIRPLUS."""
    rows, at = [], 0
    while at < len(payload):
        fields = wire.DIRENTPLUS.unpack_from(payload, at)
        node, (ino, after, length, kind) = fields[0], fields[-4:]
        entry = Entry(node, Attr(*fields[-4 - _ATTRS : -4])) if node else None
        at += wire.DIRENTPLUS_SIZE
        rows.append(DirRow(payload[at : at + length], ino, kind, after, entry))
        at += length + wire.padding(length)
    return rows
