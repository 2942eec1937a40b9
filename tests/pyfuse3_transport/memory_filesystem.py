"""A small filesystem in memory that keeps the contract, and keeps account of what the transport owes it."""

# ruff: noqa: ARG002 -- the signatures are those of the contract

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from unionfs.filesystem import (
    ROOT_ID,
    SET_ATIME,
    SET_GID,
    SET_KILL_SUIDGID,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    SET_UID,
    Attr,
    Caller,
    Changes,
    DirRow,
    Entry,
    ExtendedFlags,
    Opened,
    StaleAttributes,
    StatFs,
)

FIRST_INO = 5000
"""Far from the node ids: a transport that mixes the two up shows."""

SET_ID_BITS = stat.S_ISUID | stat.S_ISGID


@dataclass
class Inode:
    node: int
    ino: int
    mode: int
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    atime_ns: int = field(default_factory=time.time_ns)
    mtime_ns: int = field(default_factory=time.time_ns)
    nlink: int = 1
    nlookup: int = 0
    data: bytearray = field(default_factory=bytearray)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    children: dict[bytes, Inode] = field(default_factory=dict)
    parent: Inode | None = None
    generation: int = 0

    def attr(self) -> Attr:
        atime, atimensec = divmod(self.atime_ns, 10**9)
        mtime, mtimensec = divmod(self.mtime_ns, 10**9)
        size, blocks = len(self.data), (len(self.data) + 511) // 512
        times = (atime, mtime, mtime, atimensec, mtimensec, mtimensec)
        return Attr(self.ino, size, blocks, *times, self.mode, self.nlink, self.uid, self.gid, self.rdev, 4096, 0)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class MemoryFilesystem:
    """Tests look at ``nodes`` and the records, and override single methods in subclasses."""

    writable = True

    def __init__(self) -> None:
        self.notices: list[StaleAttributes] = []
        self.root = Inode(ROOT_ID, FIRST_INO, stat.S_IFDIR | 0o755, nlink=2)
        self.root.parent = self.root
        self.nodes = {ROOT_ID: self.root}
        self.stale: set[int] = set()
        self.synced: list[tuple[int, bool]] = []
        self.unread_names: list[bytes] = []
        self.next_ino = FIRST_INO + 1

    # -- for tests ----------------------------------------------------------------------------------------------------

    def add(self, name: bytes, mode: int, data: bytes = b"", parent: Inode | None = None) -> Inode:
        """An object made behind the transport's back."""
        parent = parent or self.root
        node = max(self.nodes) + 1
        inode = Inode(node, self.next_ino, mode, data=bytearray(data), parent=parent)
        self.next_ino += 1
        self.nodes[node] = parent.children[name] = inode
        return inode

    def lookups(self) -> dict[int, int]:
        """The nlookup of each node that has one."""
        return {node: inode.nlookup for node, inode in self.nodes.items() if inode.nlookup}

    # -- nodes ----------------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        inode = self.nodes[parent].children.get(name)
        return None if inode is None else self._entry(inode)

    def forget(self, node: int, nlookup: int) -> None:
        self.nodes[node].nlookup -= nlookup

    def getattr(self, node: int) -> Attr:
        return self.nodes[node].attr()

    def setattr(self, node: int, changes: Changes, caller: Caller) -> Attr:
        inode = self.nodes[node]
        if changes.valid & SET_MODE:
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(changes.mode)
        if changes.valid & SET_UID:
            inode.uid = changes.uid
        if changes.valid & SET_GID:
            inode.gid = changes.gid
        if changes.valid & SET_SIZE:
            inode.data = inode.data[: changes.size].ljust(changes.size, b"\0")
        if changes.valid & SET_ATIME:
            inode.atime_ns = changes.atime_ns
        if changes.valid & SET_MTIME:
            inode.mtime_ns = changes.mtime_ns
        if changes.valid & SET_KILL_SUIDGID and stat.S_ISREG(inode.mode):
            inode.mode &= ~SET_ID_BITS
        return inode.attr()

    def readlink(self, node: int) -> bytes:
        return bytes(self.nodes[node].data)

    def statfs(self) -> StatFs:
        return StatFs(1000, 600, 500, 300, 200, 4096, 240, 4096)

    def birth_time(self, node: int) -> int | None:
        raise AssertionError("pyfuse3 passes no STATX on")

    def get_flags(self, node: int) -> int:
        raise AssertionError("pyfuse3 passes no IOCTL on")

    def set_flags(self, node: int, flags: int) -> None:
        raise AssertionError("pyfuse3 passes no IOCTL on")

    def get_extended_flags(self, node: int) -> ExtendedFlags:
        raise AssertionError("pyfuse3 passes no IOCTL on")

    def set_extended_flags(self, node: int, flags: ExtendedFlags) -> None:
        raise AssertionError("pyfuse3 passes no IOCTL on")

    def is_stale(self, node: int) -> bool:
        return node in self.stale

    # -- names ----------------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        return self._entry(self._make(parent, name, mode & ~caller.umask, caller, rdev))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        inode = self._make(parent, name, mode & ~caller.umask, caller)
        inode.nlink = 2
        return self._entry(inode)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        inode = self._make(parent, name, stat.S_IFLNK | 0o777, caller)
        inode.data[:] = target
        return self._entry(inode)

    def link(self, node: int, parent: int, name: bytes) -> Entry:
        if name in self.nodes[parent].children:
            raise _error(errno.EEXIST)
        inode = self.nodes[parent].children[name] = self.nodes[node]
        inode.nlink += 1
        return self._entry(inode)

    def unlink(self, parent: int, name: bytes) -> None:
        self._child(parent, name).nlink -= 1
        del self.nodes[parent].children[name]

    def rmdir(self, parent: int, name: bytes) -> None:
        if self._child(parent, name).children:
            raise _error(errno.ENOTEMPTY)
        del self.nodes[parent].children[name]

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        source, target = self.nodes[parent].children, self.nodes[new_parent].children
        if flags == 1 and new_name in target:
            raise _error(errno.EEXIST)
        if flags == 2:
            source[name], target[new_name] = target[new_name], source[name]
        elif flags in (0, 1):
            target[new_name] = source.pop(name)
        else:
            raise _error(errno.EINVAL)

    # -- file contents --------------------------------------------------------------------------------------------------

    def open(self, node: int, flags: int, caller: Caller) -> Opened:
        truncated = bool(flags & os.O_TRUNC)
        if truncated:
            self.nodes[node].data.clear()
        return Opened(self.nodes[node].generation, truncated)

    def create(self, parent: int, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        return self.mknod(parent, name, mode, 0, caller), Opened(0)

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        raise AssertionError("pyfuse3 passes no TMPFILE on")

    def pin(self, node: int) -> None:
        raise AssertionError("a transport without passthrough pins nothing")

    def unpin(self, node: int) -> None:
        raise AssertionError("a transport without passthrough pins nothing")

    def backing_fd(self, node: int) -> int:
        raise AssertionError("a transport without passthrough needs no backing file")

    def read(self, node: int, offset: int, size: int) -> bytes:
        return bytes(self.nodes[node].data[offset : offset + size])

    def write(self, node: int, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        inode = self.nodes[node]
        inode.data.extend(bytes(max(0, offset - len(inode.data))))
        inode.data[offset : offset + len(data)] = data
        if kill_suidgid:
            inode.mode &= ~SET_ID_BITS
        return len(data)

    def copy_file_range(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        raise AssertionError("pyfuse3 passes no COPY_FILE_RANGE on")

    def fallocate(self, node: int, offset: int, length: int, mode: int) -> None:
        raise _error(errno.EOPNOTSUPP)

    def lseek(self, node: int, offset: int, whence: int) -> int:
        raise _error(errno.EOPNOTSUPP)

    def fsync(self, node: int, datasync: bool) -> None:
        self.synced.append((node, datasync))

    # -- directories ----------------------------------------------------------------------------------------------------

    def readdir(self, node: int, offset: int) -> Iterator[DirRow]:
        inode = self.nodes[node]
        assert inode.parent is not None
        rows = [(b".", inode), (b"..", inode.parent), *inode.children.items()]
        for number, (name, found) in enumerate(rows[offset:], offset + 1):
            yield DirRow(name, found.ino, found.mode >> 12, number, None)

    def readdirplus(self, node: int, offset: int) -> Iterator[DirRow]:
        for row in self.readdir(node, offset):
            if row.offset <= 2:
                yield row
            else:
                yield row._replace(entry=self._entry(self.nodes[node].children[row.name]))

    def unread(self, row: DirRow) -> None:
        assert row.entry is not None
        self.unread_names.append(row.name)
        self.nodes[row.entry.node].nlookup -= 1

    # -- extended attributes --------------------------------------------------------------------------------------------

    def getxattr(self, node: int, name: bytes) -> bytes:
        try:
            return self.nodes[node].xattrs[name]
        except KeyError:
            raise _error(errno.ENODATA) from None

    def setxattr(self, node: int, name: bytes, value: bytes, flags: int) -> None:
        self.nodes[node].xattrs[name] = value

    def listxattr(self, node: int, caller: Caller) -> Sequence[bytes]:
        return [name for name in self.nodes[node].xattrs if caller.uid == 0 or not name.startswith(b"trusted.")]

    def removexattr(self, node: int, name: bytes) -> None:
        self.getxattr(node, name)
        del self.nodes[node].xattrs[name]

    # -- the whole --------------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        return {"inodes": len(self.nodes)}

    def explain(self, path: bytes) -> dict[str, Any]:
        return {"path": os.fsdecode(path)}

    def close(self) -> None:
        self.nodes.clear()

    def _entry(self, inode: Inode) -> Entry:
        inode.nlookup += 1
        return Entry(inode.node, inode.attr())

    def _child(self, parent: int, name: bytes) -> Inode:
        try:
            return self.nodes[parent].children[name]
        except KeyError:
            raise _error(errno.ENOENT) from None

    def _make(self, parent: int, name: bytes, mode: int, caller: Caller, rdev: int = 0) -> Inode:
        if name in self.nodes[parent].children:
            raise _error(errno.EEXIST)
        inode = self.add(name, mode, parent=self.nodes[parent])
        inode.uid, inode.gid, inode.rdev = caller.uid, caller.gid, rdev
        return inode
