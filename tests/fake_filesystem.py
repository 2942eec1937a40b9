"""A small filesystem for the tests of transports: a tree in memory, with the contents of files in real files.

It keeps to the contract of `unionfs.filesystem` and counts what a transport owes it (lookups, pins).  A test makes it misbehave
or wait through ``hooks``, and moves the data of a file, as a copy-up does, with `FakeFilesystem.move_data`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unionfs.filesystem import (
    ROOT_ID,
    SET_ATIME,
    SET_ATIME_NOW,
    SET_GID,
    SET_KILL_SUIDGID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    Attr,
    Caller,
    Changes,
    DirRow,
    Entry,
    ExtendedFlags,
    Forgettable,
    Opened,
    StaleAttributes,
    StatFs,
)
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE

SECOND = 1_000_000_000
FIRST_INO = 5000
"""Inode numbers are far from node ids: a transport that mixes the two up shows."""
NO_FLAGS = ExtendedFlags(0, 0, 0, 0, 0)


@dataclass
class FakeNode:
    """One object.  ``fd`` is its real file's (regular files only), -1 until it is needed."""

    node: int
    ino: int
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    rdev: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    fd: int = -1
    generation: int = 0
    birth_ns: int | None = None
    flags: int = 0
    extended_flags: ExtendedFlags = NO_FLAGS
    names: dict[bytes, int] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


class FakeFilesystem:
    """See `unionfs.filesystem.Filesystem`."""

    def __init__(self, directory: Path | None = None) -> None:
        """``directory`` gets the real files; without it they have no names (memfd_create(2))."""
        self.notices: list[StaleAttributes | Forgettable] = []
        self.writable = True
        self.directory = directory
        self.nodes = {ROOT_ID: FakeNode(ROOT_ID, FIRST_INO, stat.S_IFDIR | 0o755, nlink=2)}
        self.nlookup: Counter[int] = Counter()
        self.pins: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self.stale: set[int] = set()
        self.hooks: dict[str, Callable[..., None]] = {}
        self.to_give_way = 0
        """How many times there is something to close."""
        """Called at the start of the method of that name, with its arguments; what they raise, the method raises."""
        self._files = 0

    def _enter(self, method: str, *arguments: object) -> None:
        self.calls[method] += 1
        hook = self.hooks.get(method)
        if hook is not None:
            hook(*arguments)

    # -- what tests do to it ------------------------------------------------------------------------------------------

    @property
    def root(self) -> FakeNode:
        return self.nodes[ROOT_ID]

    def child(self, name: bytes, parent: int = ROOT_ID) -> FakeNode:
        """What a name leads to.  ENOENT if there is none."""
        try:
            return self.nodes[self.nodes[parent].names[name]]
        except KeyError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None

    def make(self, path: bytes, mode: int, content: bytes = b"") -> FakeNode:
        """Make an object behind the transport's back, below an existing directory; ``content`` of a link is its target."""
        *parents, name = path.split(b"/")
        parent = ROOT_ID
        for part in parents:
            parent = self.nodes[parent].names[part]
        node = self._new(parent, name, mode, Caller(0, 0, 0, 0))
        if stat.S_ISLNK(mode):
            node.target = content
        elif content:
            os.pwrite(self._fd(node.node), content, 0)
        return node

    def add(self, path: bytes, content: bytes | None = b"", mode: int = 0o644, target: bytes = b"") -> int:
        """Make a file (``content`` None: a directory; ``target``: a symbolic link); its node id."""
        kind = stat.S_IFDIR if content is None else stat.S_IFLNK if target else stat.S_IFREG
        return self.make(path, kind | mode, target or content or b"").node

    def lookups(self) -> dict[int, int]:
        """The nlookup of each node that has one."""
        return {node: nlookup for node, nlookup in self.nlookup.items() if nlookup}

    def move_data(self, node: int) -> Path:
        """Move a file's data to another real file, as a copy-up does; returns where."""
        moved = self.nodes[node]
        content = self.content(node)
        os.close(moved.fd)
        moved.fd, path = self._real_file()
        os.pwrite(moved.fd, content, 0)
        moved.generation += 1
        return path

    def content(self, node: int) -> bytes:
        """What the node's real file holds."""
        fd = self._fd(node)
        return os.pread(fd, os.fstat(fd).st_size, 0)

    def _fd(self, node: int) -> int:
        file = self.nodes[node]
        if file.fd < 0:
            file.fd, _ = self._real_file()
        return file.fd

    def _real_file(self) -> tuple[int, Path]:
        self._files += 1
        if self.directory is None:
            fd = os.memfd_create(str(self._files))
            return fd, Path(f"/proc/self/fd/{fd}")
        path = self.directory / str(self._files)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), path

    def _new(self, parent: int, name: bytes, mode: int, caller: Caller) -> FakeNode:
        names = self.nodes[parent].names
        if name in names:
            raise OSError(errno.EEXIST, "exists")
        node = self._new_unnamed(mode, caller)
        names[name] = node.node
        return node

    def _new_unnamed(self, mode: int, caller: Caller) -> FakeNode:
        now = time.time_ns()
        number = len(self.nodes) + 1
        node = FakeNode(number, FIRST_INO + number, mode & ~caller.umask, caller.uid, caller.gid, atime_ns=now, mtime_ns=now)
        if stat.S_ISDIR(mode):
            node.nlink = 2
        self.nodes[number] = node
        return node

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _entry(self, node: FakeNode) -> Entry:
        self.nlookup[node.node] += 1
        return Entry(node.node, self._attr(node))

    def _attr(self, node: FakeNode) -> Attr:
        size = os.fstat(node.fd).st_size if node.fd >= 0 else len(node.target)
        atime, atimensec = divmod(node.atime_ns, SECOND)
        mtime, mtimensec = divmod(node.mtime_ns, SECOND)
        return Attr(
            node.ino,
            size,
            -(-size // 512),
            atime,
            mtime,
            mtime,
            atimensec,
            mtimensec,
            mtimensec,
            node.mode,
            node.nlink,
            node.uid,
            node.gid,
            node.rdev,
            4096,
            0,
        )

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        self._enter("lookup", parent, name)
        node = self.nodes[parent].names.get(name)
        return None if node is None else self._entry(self.nodes[node])

    def forget(self, node: int, nlookup: int) -> bool:
        self._enter("forget", node, nlookup)
        self.nlookup[node] -= nlookup
        return self.nlookup[node] > 0

    def getattr(self, node: int) -> Attr:
        self._enter("getattr", node)
        return self._attr(self.nodes[node])

    def setattr(self, node: int, changes: Changes, caller: Caller) -> Attr:
        self._enter("setattr", node, changes, caller)
        changed = self.nodes[node]
        valid = changes.valid
        if valid & SET_MODE:
            changed.mode = stat.S_IFMT(changed.mode) | stat.S_IMODE(changes.mode)
        if valid & SET_UID:
            changed.uid = changes.uid
        if valid & SET_GID:
            changed.gid = changes.gid
        if valid & SET_SIZE:
            os.truncate(self._fd(node), changes.size)
        if valid & SET_ATIME:
            changed.atime_ns = time.time_ns() if valid & SET_ATIME_NOW else changes.atime_ns
        if valid & SET_MTIME:
            changed.mtime_ns = time.time_ns() if valid & SET_MTIME_NOW else changes.mtime_ns
        if valid & SET_KILL_SUIDGID:
            self._kill_suidgid(changed)
        return self._attr(changed)

    def _kill_suidgid(self, node: FakeNode) -> None:
        if stat.S_ISREG(node.mode):
            node.mode &= ~(stat.S_ISUID | stat.S_ISGID)

    def readlink(self, node: int) -> bytes:
        self._enter("readlink", node)
        return self.nodes[node].target

    def birth_time(self, node: int) -> int | None:
        self._enter("birth_time", node)
        return self.nodes[node].birth_ns

    def get_flags(self, node: int) -> int:
        self._enter("get_flags", node)
        return self.nodes[node].flags

    def set_flags(self, node: int, flags: int) -> None:
        self._enter("set_flags", node, flags)
        self.nodes[node].flags = flags

    def get_extended_flags(self, node: int) -> ExtendedFlags:
        self._enter("get_extended_flags", node)
        return self.nodes[node].extended_flags

    def set_extended_flags(self, node: int, flags: ExtendedFlags) -> None:
        self._enter("set_extended_flags", node, flags)
        self.nodes[node].extended_flags = flags

    def statfs(self) -> StatFs:
        self._enter("statfs")
        return StatFs(1000, 600, 500, 300, 200, 4096, 255, 4096)

    # -- names ------------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        self._enter("mknod", parent, name, mode, rdev, caller)
        node = self._new(parent, name, mode, caller)
        node.rdev = rdev
        return self._entry(node)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        self._enter("mkdir", parent, name, mode, caller)
        return self._entry(self._new(parent, name, stat.S_IFDIR | mode, caller))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        self._enter("symlink", parent, name, target, caller)
        node = self._new(parent, name, stat.S_IFLNK | 0o777, caller)
        node.target = target
        return self._entry(node)

    def link(self, node: int, parent: int, name: bytes) -> Entry:
        self._enter("link", node, parent, name)
        names = self.nodes[parent].names
        if name in names:
            raise OSError(errno.EEXIST, "exists")
        names[name] = node
        self.nodes[node].nlink += 1
        return self._entry(self.nodes[node])

    def unlink(self, parent: int, name: bytes) -> None:
        self._enter("unlink", parent, name)
        self.child(name, parent).nlink -= 1
        del self.nodes[parent].names[name]

    def rmdir(self, parent: int, name: bytes) -> None:
        self._enter("rmdir", parent, name)
        if self.child(name, parent).names:
            raise OSError(errno.ENOTEMPTY, "not empty")
        del self.nodes[parent].names[name]

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        self._enter("rename", parent, name, new_parent, new_name, flags)
        source, target = self.nodes[parent].names, self.nodes[new_parent].names
        if flags == RENAME_NOREPLACE and new_name in target:
            raise OSError(errno.EEXIST, "exists")
        if flags == RENAME_EXCHANGE:
            source[name], target[new_name] = target[new_name], source[name]
        else:
            target[new_name] = source.pop(name)

    # -- file contents ------------------------------------------------------------------------------------------------

    def open(self, node: int, flags: int, caller: Caller) -> Opened:
        self._enter("open", node, flags, caller)
        truncated = bool(flags & os.O_TRUNC)
        if truncated:
            os.truncate(self._fd(node), 0)
        return Opened(self.nodes[node].generation, truncated)

    def create(self, parent: int, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        self._enter("create", parent, name, flags, mode, caller)
        node = self._new(parent, name, stat.S_IFREG | mode, caller)
        return self._entry(node), Opened(0)

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        self._enter("tmpfile", parent, mode, caller)
        node = self._new_unnamed(stat.S_IFREG | mode, caller)
        node.nlink = 0
        return self._entry(node), Opened(0)

    def pin(self, node: int) -> None:
        self.pins[node] += 1

    def unpin(self, node: int) -> None:
        self.pins[node] -= 1

    def backing_fd(self, node: int) -> int:
        self._enter("backing_fd", node)
        return self._fd(node)

    def read(self, node: int, offset: int, size: int) -> bytes:
        self._enter("read", node, offset, size)
        return os.pread(self._fd(node), size, offset)

    def write(self, node: int, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        self._enter("write", node, offset, data, kill_suidgid)
        if kill_suidgid:
            self._kill_suidgid(self.nodes[node])
        return os.pwrite(self._fd(node), data, offset)

    def copy_file_range(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        self._enter("copy_file_range", source, source_offset, target, target_offset, length)
        data = os.pread(self._fd(source), min(length, 1 << 20), source_offset)
        return os.pwrite(self._fd(target), data, target_offset)

    def fallocate(self, node: int, offset: int, length: int, mode: int) -> None:
        self._enter("fallocate", node, offset, length, mode)
        os.posix_fallocate(self._fd(node), offset, length)

    def lseek(self, node: int, offset: int, whence: int) -> int:
        self._enter("lseek", node, offset, whence)
        return os.lseek(self._fd(node), offset, whence)

    def fsync(self, node: int, datasync: bool) -> None:
        self._enter("fsync", node, datasync)

    # -- directories --------------------------------------------------------------------------------------------------

    def readdir(self, node: int, offset: int) -> Iterator[DirRow]:
        self._enter("readdir", node, offset)
        return self._rows(node, offset, False)

    def readdirplus(self, node: int, offset: int) -> Iterator[DirRow]:
        self._enter("readdirplus", node, offset)
        return self._rows(node, offset, True)

    def _rows(self, node: int, offset: int, plus: bool) -> Iterator[DirRow]:
        listing = [(b".", node), (b"..", ROOT_ID), *self.nodes[node].names.items()]
        for position, (name, child) in enumerate(listing[offset:], offset + 1):
            self._enter("row", name)
            entry = self._entry(self.nodes[child]) if plus and position > 2 else None
            yield DirRow(name, self.nodes[child].ino, self.nodes[child].mode >> 12, position, entry)

    def unread(self, row: DirRow) -> None:
        self.calls["unread"] += 1
        if row.entry is not None:
            self.nlookup[row.entry.node] -= 1

    # -- extended attributes -----------------------------------------------------------------------------------------

    def getxattr(self, node: int, name: bytes) -> bytes:
        self._enter("getxattr", node, name)
        value = self.nodes[node].xattrs.get(name)
        if value is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return value

    def setxattr(self, node: int, name: bytes, value: bytes, flags: int) -> None:
        self._enter("setxattr", node, name, value, flags)
        self.nodes[node].xattrs[name] = value

    def listxattr(self, node: int, caller: Caller) -> Sequence[bytes]:
        self._enter("listxattr", node, caller)
        return [name for name in self.nodes[node].xattrs if caller.uid == 0 or not name.startswith(b"trusted.")]

    def removexattr(self, node: int, name: bytes) -> None:
        self._enter("removexattr", node, name)
        if self.nodes[node].xattrs.pop(name, None) is None:
            raise OSError(errno.ENODATA, "no such attribute")

    # -- the whole ------------------------------------------------------------------------------------------------------

    def give_way(self) -> bool:
        self.to_give_way -= 1
        return self.to_give_way >= 0

    def statistics(self) -> dict[str, int]:
        return {"nodes": len(self.nodes)}

    def explain(self, path: bytes) -> dict[str, Any]:
        return {"path": os.fsdecode(path)}

    def close(self) -> None:
        for node in self.nodes.values():
            if node.fd >= 0:
                os.close(node.fd)
                node.fd = -1
