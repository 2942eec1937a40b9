"""What the direct session does with each kind of request: decode, call the filesystem, encode.

An operation has two halves, because of `Blocking` with ``restart=False``, where the filesystem's result comes from a thread:
``call`` decodes the body and calls the method, ``finish`` makes the reply out of the result.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from unionfs.filesystem import (
    SET_ATIME,
    SET_ATIME_NOW,
    SET_CTIME,
    SET_GID,
    SET_KILL_SUIDGID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    Attr,
    Blocking,
    Caller,
    Changes,
    DirRow,
    Entry,
    Filesystem,
    Opened,
    StatFs,
)
from unionfs.fuse import wire
from unionfs.fuse.backing import BackingFiles
from unionfs.fuse.ioctl import serve_ioctl
from unionfs.fuse.negotiation import MAX_WRITE
from unionfs.fuse.protocol import (
    FSYNC_FDATASYNC,
    GETATTR_FH,
    OPEN_KILL_SUIDGID,
    SETXATTR_ACL_KILL_SGID,
    WRITE_CACHE,
    WRITE_KILL_SUIDGID,
    InitFlag,
    Opcode,
    OpenFlag,
)
from unionfs.fuse.session import SessionSettings
from unionfs.fuse.wire import RequestHeader, validity
from unionfs.fuse.write_back import WriteBack

_SETTABLE = (
    SET_MODE | SET_UID | SET_GID | SET_SIZE | SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW | SET_CTIME | SET_KILL_SUIDGID
)
_SECOND = 1_000_000_000  # in nanoseconds
_MOST_OF_32_BITS = 0xFFFFF000  # a whole number of pages
_MODE, _UMASK = 0xFFFF, 0o777  # umode_t of Linux has 16 bits
_NODE, _UID, _GID, _PID = 3, 4, 5, 6  # where they stand in a RequestHeader

Call = Callable[[RequestHeader, memoryview], Any]
Finish = Callable[[RequestHeader, memoryview, Any], bytes | memoryview]


class Operation(NamedTuple):
    """How one opcode is served.  Both halves may raise OSError, Blocking and MalformedRequestError."""

    call: Call
    finish: Finish


def _caller(header: RequestHeader, umask: int = 0) -> Caller:
    return Caller(header[_UID], header[_GID], header[_PID], umask & _UMASK)


class DirectHandlers:
    """The operations of one session, on one filesystem."""

    def __init__(
        self,
        filesystem: Filesystem,
        settings: SessionSettings,
        flags: InitFlag,
        backing_files: BackingFiles | None,
        invalidate_attributes: Callable[[int], None],
    ) -> None:
        """``flags``: what INIT agreed on.  ``backing_files``: None on the cached data path.  ``invalidate_attributes``: makes the
        kernel forget those of a node."""
        self._filesystem = filesystem
        self._invalidate_attributes = invalidate_attributes
        self._backing_files = backing_files
        self._extended_setxattr = bool(flags & InitFlag.SETXATTR_EXT)
        entry_valid, not_valid = validity(settings.entry_timeout), validity(0)
        self._stale = filesystem.stale
        self._attr_valid = validity(settings.attr_timeout)
        self._attr_not_valid = not_valid
        self._entry_valid = wire.entry_validity(entry_valid, self._attr_valid)
        self._stale_entry_valid = wire.entry_validity(entry_valid, not_valid)
        self._no_entry = wire.encode_no_entry(validity(settings.negative_timeout))
        self._write_back = WriteBack(filesystem, invalidate_attributes)
        self.operations = self._operations()
        self.unanswered: dict[int, Callable[[memoryview, RequestHeader], None]] = {
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.INTERRUPT: self._interrupt,
        }
        """Requests that the kernel wants no reply to."""

    def _operations(self) -> dict[int, Operation]:
        operations: dict[int, Operation] = {
            Opcode.LOOKUP: Operation(self._lookup, self._finish_lookup),
            Opcode.GETATTR: Operation(self._getattr, self._finish_attr),
            Opcode.SETATTR: Operation(self._setattr, self._finish_attr),
            Opcode.READLINK: Operation(self._readlink, self._finish_data),
            Opcode.SYMLINK: Operation(self._symlink, self._finish_entry),
            Opcode.MKNOD: Operation(self._mknod, self._finish_entry),
            Opcode.MKDIR: Operation(self._mkdir, self._finish_entry),
            Opcode.UNLINK: Operation(self._unlink, self._finish_done),
            Opcode.RMDIR: Operation(self._rmdir, self._finish_done),
            Opcode.RENAME: Operation(self._rename, self._finish_done),
            Opcode.RENAME2: Operation(self._rename2, self._finish_done),
            Opcode.LINK: Operation(self._link, self._finish_entry),
            Opcode.CREATE: Operation(self._create, self._finish_create),
            Opcode.READ: Operation(self._read, self._finish_data),
            Opcode.WRITE: Operation(self._write, self._finish_write),
            Opcode.STATFS: Operation(self._statfs, self._finish_statfs),
            Opcode.RELEASE: Operation(self._release, self._finish_done),
            Opcode.FSYNC: Operation(self._fsync, self._finish_done),
            Opcode.FSYNCDIR: Operation(self._fsync, self._finish_done),
            Opcode.SETXATTR: Operation(self._setxattr, self._finish_done),
            Opcode.GETXATTR: Operation(self._getxattr, self._finish_getxattr),
            Opcode.LISTXATTR: Operation(self._listxattr, self._finish_listxattr),
            Opcode.REMOVEXATTR: Operation(self._removexattr, self._finish_done),
            Opcode.READDIR: Operation(self._readdir, self._finish_readdir),
            Opcode.READDIRPLUS: Operation(self._readdirplus, self._finish_readdirplus),
            Opcode.FALLOCATE: Operation(self._fallocate, self._finish_done),
            Opcode.LSEEK: Operation(self._lseek, self._finish_lseek),
            Opcode.COPY_FILE_RANGE: Operation(self._copy_file_range, self._finish_write),
            Opcode.COPY_FILE_RANGE_64: Operation(self._copy_file_range, self._finish_copy_file_range_64),
            Opcode.TMPFILE: Operation(self._tmpfile, self._finish_create),
            Opcode.STATX: Operation(self._statx, self._finish_statx),
            Opcode.IOCTL: Operation(self._ioctl, self._finish_data),
            Opcode.DESTROY: Operation(self._destroy, self._finish_done),
        }
        # What stands nowhere gets ENOSYS, which the kernel remembers for the whole connection; so these are left out on purpose:
        # OPEN (without backing files) and OPENDIR: opening and releasing cost no request any more, and directories are cached.
        # FLUSH: close(2) neither.  ACCESS: default_permissions checks.  The others have a way without them, or fail as on any
        # filesystem without them.
        if self._backing_files is not None:
            operations[Opcode.OPEN] = Operation(self._open, self._finish_open)
        return operations

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _lookup(self, header: RequestHeader, body: memoryview) -> Entry | None:
        return self._filesystem.lookup(header[_NODE], wire.decode_name(body))

    def _finish_lookup(self, header: RequestHeader, body: memoryview, entry: Entry | None) -> bytes:
        return self._no_entry if entry is None else self._finish_entry(header, body, entry)

    def _finish_entry(self, _header: RequestHeader, _body: memoryview, entry: Entry) -> bytes:
        node, attr = entry
        return wire.encode_entry(node, attr, self._entry_validity_of(node))

    def _entry_validity_of(self, node: int) -> wire.EntryValidity:
        return self._stale_entry_valid if node in self._stale else self._entry_valid

    def _validity_of(self, node: int) -> wire.Validity:
        return self._attr_not_valid if node in self._stale else self._attr_valid

    def _getattr(self, header: RequestHeader, body: memoryview) -> Attr:
        if self._write_back.lost:
            self._write_back.asked(header[_NODE], with_file=bool(wire.GETATTR_IN.decode(body)[0] & GETATTR_FH))
        return self._filesystem.getattr(header[_NODE])

    def _finish_attr(self, header: RequestHeader, _body: memoryview, attr: Attr) -> bytes:
        return wire.encode_attr(attr, self._validity_of(header[_NODE]))

    def _setattr(self, header: RequestHeader, body: memoryview) -> Attr:
        (valid, _fh, size, _owner, atime, mtime, _ctime, atimensec, mtimensec, _ctimensec, mode, uid, gid) = (
            wire.SETATTR_IN.decode(body)
        )
        # A SETATTR of nothing is how file_remove_privs() arrives, before a passthrough write by somebody who may not keep the
        # set-id bits: with HANDLE_KILLPRIV_V2 fuse_setattr() strips ATTR_KILL_SUID, ATTR_KILL_SGID and ATTR_MODE, and sends the
        # rest.  No WRITE follows that could carry WRITE_KILL_SUIDGID.  A chown(2) that changes nothing arrives so too, and
        # drops the bits as well.
        changes = Changes(
            valid & _SETTABLE or SET_KILL_SUIDGID,
            mode & _MODE,
            uid,
            gid,
            size,
            atime * _SECOND + atimensec,
            mtime * _SECOND + mtimensec,
        )
        return self._filesystem.setattr(header[_NODE], changes, _caller(header))

    def _statx(self, header: RequestHeader, _body: memoryview) -> tuple[Attr, int | None]:
        node = header[_NODE]
        return self._filesystem.getattr(node), self._filesystem.birth_time(node)

    def _finish_statx(self, header: RequestHeader, _body: memoryview, found: tuple[Attr, int | None]) -> bytes:
        return wire.encode_statx(*found, self._validity_of(header[_NODE]))

    def _ioctl(self, header: RequestHeader, body: memoryview) -> bytes:
        return serve_ioctl(self._filesystem, header[_NODE], body)

    def _readlink(self, header: RequestHeader, _body: memoryview) -> bytes:
        return self._filesystem.readlink(header[_NODE])

    def _finish_data(self, _header: RequestHeader, _body: memoryview, data: bytes | memoryview) -> bytes | memoryview:
        return data

    def _finish_done(self, _header: RequestHeader, _body: memoryview, _result: None) -> bytes:
        return b""

    def _statfs(self, _header: RequestHeader, _body: memoryview) -> StatFs:
        return self._filesystem.statfs()

    def _finish_statfs(self, _header: RequestHeader, _body: memoryview, figures: StatFs) -> bytes:
        return wire.encode_statfs(figures)

    def _forget(self, body: memoryview, header: RequestHeader) -> None:
        self.forget(header[_NODE], wire.FORGET_IN.decode(body)[0])

    def _batch_forget(self, body: memoryview, _header: RequestHeader) -> None:
        for node, nlookup in wire.decode_batch_forget(body):
            self.forget(node, nlookup)

    def forget(self, node: int, nlookup: int) -> None:
        """The kernel forgets so many lookups of ``node``."""
        is_known = self._filesystem.forget(node, nlookup)
        if self._backing_files is not None:
            self._backing_files.forget(node, is_known)
        elif self._write_back.lost:
            self._write_back.lost.pop(node, None)

    def _interrupt(self, _body: memoryview, _header: RequestHeader) -> None:
        """Ignored: a request runs to its end, as one on a disk does (but see `unionfs.fuse.lane_waits`).  Most have been answered
        before the kernel can ask."""

    def _destroy(self, _header: RequestHeader, _body: memoryview) -> None:
        """Nothing is left to do: the kernel ends the connection next."""

    # -- names ------------------------------------------------------------------------------------------------------

    def _symlink(self, header: RequestHeader, body: memoryview) -> Entry:
        name, target = wire.decode_strings(body, 0, 2)
        return self._filesystem.symlink(header[_NODE], wire.check_name(name), target, _caller(header))

    def _mknod(self, header: RequestHeader, body: memoryview) -> Entry:
        mode, rdev, umask = wire.MKNOD_IN.decode(body)
        name = wire.decode_name(body, wire.MKNOD_IN.size)
        return self._filesystem.mknod(header[_NODE], name, mode & _MODE, rdev, _caller(header, umask))

    def _mkdir(self, header: RequestHeader, body: memoryview) -> Entry:
        mode, umask = wire.MKDIR_IN.decode(body)
        name = wire.decode_name(body, wire.MKDIR_IN.size)
        return self._filesystem.mkdir(header[_NODE], name, mode & _MODE, _caller(header, umask))

    def _unlink(self, header: RequestHeader, body: memoryview) -> None:
        self._filesystem.unlink(header[_NODE], wire.decode_name(body))

    def _rmdir(self, header: RequestHeader, body: memoryview) -> None:
        self._filesystem.rmdir(header[_NODE], wire.decode_name(body))

    def _rename(self, header: RequestHeader, body: memoryview) -> None:
        (new_parent,) = wire.RENAME_IN.decode(body)
        self._rename_names(header, body, wire.RENAME_IN.size, new_parent, 0)

    def _rename2(self, header: RequestHeader, body: memoryview) -> None:
        new_parent, flags = wire.RENAME2_IN.decode(body)
        self._rename_names(header, body, wire.RENAME2_IN.size, new_parent, flags)

    def _rename_names(self, header: RequestHeader, body: memoryview, start: int, new_parent: int, flags: int) -> None:
        name, new_name = wire.decode_strings(body, start, 2)
        self._filesystem.rename(header[_NODE], wire.check_name(name), new_parent, wire.check_name(new_name), flags)

    def _link(self, header: RequestHeader, body: memoryview) -> Entry:
        (node,) = wire.LINK_IN.decode(body)
        return self._filesystem.link(node, header[_NODE], wire.decode_name(body, wire.LINK_IN.size))

    # -- file contents ------------------------------------------------------------------------------------------------

    def _open(self, header: RequestHeader, body: memoryview) -> Opened:
        flags, _ = wire.OPEN_IN.decode(body)
        return self._filesystem.open(header[_NODE], flags, _caller(header))

    def _finish_open(self, header: RequestHeader, body: memoryview, opened: Opened) -> bytes:
        node = header[_NODE]
        flags, kill = wire.OPEN_IN.decode(body)
        if kill & OPEN_KILL_SUIDGID:
            self._filesystem.setattr(node, Changes(SET_KILL_SUIDGID), _caller(header))
            # The reply to OPEN has no attributes, and the kernel itself only takes the size for changed
            # (fs/fuse/dir.c, fuse_truncate_update_attr).
            self._invalidate_attributes(node)
        return self._encode_open(node, opened, flags & os.O_ACCMODE != os.O_RDONLY)

    def _create(self, header: RequestHeader, body: memoryview) -> tuple[Entry, Opened]:
        flags, mode, umask, _ = wire.CREATE_IN.decode(body)
        name = wire.decode_name(body, wire.CREATE_IN.size)
        return self._filesystem.create(header[_NODE], name, flags, mode & _MODE, _caller(header, umask))

    def _finish_create(self, header: RequestHeader, body: memoryview, created: tuple[Entry, Opened]) -> bytes:
        entry, opened = created
        *_, kill = wire.CREATE_IN.decode(body)
        try:
            if kill & OPEN_KILL_SUIDGID:
                attr = self._filesystem.setattr(entry.node, Changes(SET_KILL_SUIDGID), _caller(header))
                entry = Entry(entry.node, attr)
            return self._finish_entry(header, body, entry) + self._encode_open(entry.node, opened)
        except BaseException:
            # No reply tells the kernel of this lookup, so it will never take it back.
            self._filesystem.forget(entry.node, 1)
            raise

    def _tmpfile(self, header: RequestHeader, body: memoryview) -> tuple[Entry, Opened]:
        # The name that follows is none ("/", fs/namei.c, vfs_tmpfile).  O_EXCL, that it may never get one, the kernel sees to.
        _flags, mode, umask, _ = wire.CREATE_IN.decode(body)
        return self._filesystem.tmpfile(header[_NODE], mode & _MODE, _caller(header, umask))

    def _encode_open(self, node: int, opened: Opened, writes: bool = True) -> bytes:
        if self._backing_files is None:
            # CREATE on the cached data path: what OPEN without a message means to the kernel.
            return wire.OPEN_OUT.pack(0, 0 if opened.truncated else OpenFlag.KEEP_CACHE, 0)
        flags, backing_id = self._backing_files.acquire(node, opened, writes)
        return wire.OPEN_OUT.pack(0, flags, backing_id)

    def _release(self, header: RequestHeader, _body: memoryview) -> None:
        # Without backing files it comes only for what was made before the first OPEN taught the kernel to do without.
        if self._backing_files is not None:
            self._backing_files.release(header[_NODE])

    def _read(self, header: RequestHeader, body: memoryview) -> bytes | memoryview:
        offset, size = wire.READ_IN.decode(body)
        if size > MAX_WRITE:
            raise wire.MalformedRequestError(f"{size} bytes to read, {MAX_WRITE} at most were agreed on")
        return self._filesystem.read(header[_NODE], offset, size)

    def _write(self, header: RequestHeader, body: memoryview) -> int:
        node = header[_NODE]
        offset, write_flags, data = wire.decode_write(body)
        kill_suidgid = bool(write_flags & WRITE_KILL_SUIDGID)
        if not write_flags & WRITE_CACHE:
            return self._filesystem.write(node, offset, data, kill_suidgid)
        return self._write_back.write(node, offset, data, kill_suidgid, _caller(header))

    def _finish_write(self, _header: RequestHeader, _body: memoryview, written: int) -> bytes:
        return wire.WRITE_OUT.pack(written)

    def _fsync(self, header: RequestHeader, body: memoryview) -> None:
        (flags,) = wire.FSYNC_IN.decode(body)
        self._filesystem.fsync(header[_NODE], bool(flags & FSYNC_FDATASYNC))

    def _fallocate(self, header: RequestHeader, body: memoryview) -> None:
        offset, length, mode = wire.FALLOCATE_IN.decode(body)
        self._filesystem.fallocate(header[_NODE], offset, length, mode)

    def _lseek(self, header: RequestHeader, body: memoryview) -> int:
        offset, whence = wire.LSEEK_IN.decode(body)
        return self._filesystem.lseek(header[_NODE], offset, whence)

    def _finish_lseek(self, _header: RequestHeader, _body: memoryview, offset: int) -> bytes:
        return wire.LSEEK_OUT.pack(offset)

    def _copy_file_range(self, header: RequestHeader, body: memoryview) -> int:
        source_offset, target, target_offset, length, _flags = wire.COPY_FILE_RANGE_IN.decode(body)
        # The reply to the older of the two requests has 32 bits.
        most = length if header[1] == Opcode.COPY_FILE_RANGE_64 else min(length, _MOST_OF_32_BITS)
        return self._filesystem.copy_file_range(header[_NODE], source_offset, target, target_offset, most)

    def _finish_copy_file_range_64(self, _header: RequestHeader, _body: memoryview, copied: int) -> bytes:
        return wire.COPY_FILE_RANGE_64_OUT.pack(copied)

    # -- directories --------------------------------------------------------------------------------------------------

    def _readdir(self, header: RequestHeader, body: memoryview) -> Iterable[DirRow]:
        offset, _ = wire.READ_IN.decode(body)
        return self._filesystem.readdir(header[_NODE], offset)

    def _finish_readdir(self, _header: RequestHeader, body: memoryview, rows: Iterable[DirRow]) -> bytes:
        return _fill(rows, wire.READ_IN.decode(body)[1], wire.encode_dirent, None)

    def _readdirplus(self, header: RequestHeader, body: memoryview) -> Iterable[DirRow]:
        offset, _ = wire.READ_IN.decode(body)
        return self._filesystem.readdirplus(header[_NODE], offset)

    def _finish_readdirplus(self, _header: RequestHeader, body: memoryview, rows: Iterable[DirRow]) -> bytes:
        return _fill(rows, wire.READ_IN.decode(body)[1], self._encode_direntplus, self._filesystem.unread)

    def _encode_direntplus(self, row: DirRow) -> bytes:
        if row.entry is None or not row.entry.node:
            return wire.NO_ENTRY + wire.encode_dirent(row)
        node, attr = row.entry
        return wire.encode_direntplus(row, node, attr, self._entry_validity_of(node))

    # -- extended attributes ------------------------------------------------------------------------------------------

    def _getxattr(self, header: RequestHeader, body: memoryview) -> bytes:
        (name,) = wire.decode_strings(body, wire.GETXATTR_IN.size, 1)
        return self._filesystem.getxattr(header[_NODE], name)

    def _finish_getxattr(self, _header: RequestHeader, body: memoryview, value: bytes) -> bytes:
        (size,) = wire.GETXATTR_IN.decode(body)
        if size == 0:
            return wire.GETXATTR_OUT.pack(len(value))
        if len(value) > size:
            raise OSError(errno.ERANGE, "the value is longer than the buffer")
        return value

    def _listxattr(self, header: RequestHeader, _body: memoryview) -> Sequence[bytes]:
        return self._filesystem.listxattr(header[_NODE], _caller(header))

    def _finish_listxattr(self, header: RequestHeader, body: memoryview, names: Sequence[bytes]) -> bytes:
        return self._finish_getxattr(header, body, wire.encode_xattr_names(names))

    def _setxattr(self, header: RequestHeader, body: memoryview) -> None:
        name, value, flags, setxattr_flags = wire.decode_setxattr(body, self._extended_setxattr)
        node = header[_NODE]
        self._filesystem.setxattr(node, name, value, flags)
        if setxattr_flags & SETXATTR_ACL_KILL_SGID:
            # setxattr(2) by us, who have CAP_FSETID, keeps the bit that it would drop for the caller.
            mode = self._filesystem.getattr(node).mode
            if mode & stat.S_ISGID:
                self._filesystem.setattr(node, Changes(SET_MODE, mode & ~stat.S_ISGID), _caller(header))

    def _removexattr(self, header: RequestHeader, body: memoryview) -> None:
        self._filesystem.removexattr(header[_NODE], wire.decode_strings(body, 0, 1)[0])

    # -- replies that never arrived -----------------------------------------------------------------------------------

    def take_back(self, header: RequestHeader, payload: bytes) -> None:
        """Undo what a reply that the kernel did not accept would have made it remember: lookups and opens."""
        opcode = header[1]
        if opcode == Opcode.READDIRPLUS:
            for node in wire.direntplus_nodes(payload):
                self._filesystem.forget(node, 1)
        elif opcode in (Opcode.OPEN, Opcode.CREATE, Opcode.TMPFILE) and self._backing_files is not None:
            node = header[_NODE] if opcode == Opcode.OPEN else wire.NODE_ID.unpack_from(payload)[0]
            self._backing_files.release(node)
        operation = self.operations[opcode]
        if operation.finish in (self._finish_lookup, self._finish_entry, self._finish_create):
            (node,) = wire.NODE_ID.unpack_from(payload)
            if node:
                self._filesystem.forget(node, 1)


def _fill(rows: Iterable[DirRow], size: int, encode: Callable[[DirRow], bytes], unread: Callable[[DirRow], None] | None) -> bytes:
    """As many rows as ``size`` bytes hold.  ``unread`` gets the one that did not fit, where that matters."""
    records: list[bytes] = []
    room = size
    try:
        for row in rows:
            record = encode(row)
            if len(record) > room:
                if unread is not None:
                    unread(row)
                break
            room -= len(record)
            records.append(record)
    except (OSError, Blocking):
        # The rows before it have been counted as looked up, so they must reach the kernel; it asks for the rest again, and
        # then the error comes first.
        if not records:
            raise
    return b"".join(records)
