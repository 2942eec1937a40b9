"""The handlers that pyfuse3 calls: each asks the filesystem contract and puts the answer into pyfuse3's classes."""

# ruff: noqa: ARG002 -- the signatures are those of pyfuse3.Operations

from __future__ import annotations

import errno
import functools
import logging
import stat
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import FileHandleT, FileNameT, FlagT, InodeT, ModeT, XAttrNameT

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
    Blocking,
    Caller,
    Changes,
    DirRow,
    Entry,
    Filesystem,
    Opened,
)
from unionfs.fuse.blocking import BlockingWorks
from unionfs.fuse.device import lacks_descriptors
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.pyfuse3_node_ids import NodeIds
from unionfs.fuse.pyfuse3_notices import tell_of_stale_attributes
from unionfs.fuse.request_times import RequestTimes, end
from unionfs.fuse.session import SessionSettings

log = logging.getLogger("unionfs.fuse")

_NANOSECONDS = 1_000_000_000

P = ParamSpec("P")
T = TypeVar("T")


def _handler(
    function: Callable[Concatenate[Pyfuse3Operations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Pyfuse3Operations, P], Coroutine[Any, Any, T]]:
    """Count the request and turn every exception into a `pyfuse3.FUSEError`: anything else would end the session."""
    opcode = Opcode[function.__name__.upper()]

    @functools.wraps(function)
    async def answer(self: Pyfuse3Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter_ns()
        cells = self.times.begin(opcode)
        try:
            return await function(self, *args, **kwargs)
        except OSError as error:
            self.times.fail(opcode)
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except Exception:
            self.times.fail(opcode)
            self.failures += 1
            log.exception("%s failed; answered with EIO", function.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None
        finally:
            end(cells, time.perf_counter_ns() - began)
            if self._filesystem.notices:
                # Before the reply, so that who gets that sees no old attributes; the others come after it.
                tell_of_stale_attributes(self._filesystem.notices, self.ids)
                self.notices_waiting.unpark_all()

    return answer


class Pyfuse3Operations(pyfuse3.Operations):
    """One mount's handlers.  Signatures and rules are those of `pyfuse3.Operations`.

    libfuse 3.14 asks the kernel for HANDLE_KILLPRIV (newer releases do not), which leaves it to us to drop set-id bits at a
    write, truncation or chown; but pyfuse3 does not say who writes.  So a file handle is ``node << 1 | kill``, where *kill*
    says that a user other than root opened the file.  Directory handles are node ids.
    """

    supports_dot_lookup = False
    # Not for us: a delayed write arrives after a chmod(2) that followed it, and would drop the set-id bits that this one set.
    enable_writeback_cache = False

    def __init__(self, filesystem: Filesystem, settings: SessionSettings, on_init: Callable[[], None]) -> None:
        """``on_init`` is called while INIT is being answered."""
        super().__init__()
        self.enable_acl = settings.acl
        self.times = RequestTimes()
        """Until libfuse has the answer; the writing of the reply is not in them."""
        self.failures = 0
        self._blocked = 0
        self.notices_waiting = trio.lowlevel.ParkingLot()
        """Unparked when the filesystem has notices for the kernel that must go out after the reply."""
        self.ids = NodeIds()
        self._filesystem = filesystem
        self._settings = settings
        self._on_init = on_init
        self._works = BlockingWorks()

    @property
    def counters(self) -> dict[str, int]:
        """See `unionfs.fuse.session.Session`."""
        return {**self.times.counts(), "errors": self.times.errors(), "failures": self.failures, "blocking": self._blocked}

    def init(self) -> None:
        self._on_init()

    # -- nodes ------------------------------------------------------------------------------------------------------

    @_handler
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        entry = await self._call(self._filesystem.lookup, self.ids.node(parent_inode), name)
        return self._negative() if entry is None else self._entry(entry)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        began = time.perf_counter_ns()
        cells = self.times.begin(Opcode.FORGET)
        for inode, nlookup in inode_list:
            try:
                self._filesystem.forget(self.ids.forget(inode, nlookup), nlookup)
            except Exception:  # no reply can tell of it, and one that escapes would end the session
                self.failures += 1
                log.exception("forget of %d failed", inode)
        end(cells, time.perf_counter_ns() - began)
        if self._filesystem.notices:
            self.notices_waiting.unpark_all()

    @_handler
    async def getattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        node = self.ids.node(inode)
        return self._attributes(inode, node, await self._call(self._filesystem.getattr, node))

    @_handler
    async def setattr(
        self,
        inode: InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self.ids.node(inode)
        changes = Changes(
            _valid(fields, ctx),
            stat.S_IMODE(attr.st_mode),
            attr.st_uid,
            attr.st_gid,
            attr.st_size,
            attr.st_atime_ns,
            attr.st_mtime_ns,
        )
        return self._attributes(inode, node, await self._call(self._filesystem.setattr, node, changes, _caller(ctx)))

    @_handler
    async def readlink(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileNameT:
        return FileNameT(await self._call(self._filesystem.readlink, self.ids.node(inode)))

    @_handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        figures = await self._call(self._filesystem.statfs)
        data = pyfuse3.StatvfsData()
        data.f_bsize, data.f_frsize = figures.bsize, figures.frsize
        data.f_blocks, data.f_bfree, data.f_bavail = figures.blocks, figures.bfree, figures.bavail
        data.f_files, data.f_ffree, data.f_favail = figures.files, figures.ffree, figures.ffree
        data.f_namemax = figures.namelen
        return data

    # -- names ------------------------------------------------------------------------------------------------------

    @_handler
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(await self._call(self._filesystem.mknod, self.ids.node(parent_inode), name, mode, rdev, _caller(ctx)))

    @_handler
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(await self._call(self._filesystem.mkdir, self.ids.node(parent_inode), name, mode, _caller(ctx)))

    @_handler
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(await self._call(self._filesystem.symlink, self.ids.node(parent_inode), name, target, _caller(ctx)))

    @_handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        node, parent = self.ids.node(inode), self.ids.node(new_parent_inode)
        return self._entry(await self._call(self._filesystem.link, node, parent, new_name))

    @_handler
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext) -> None:
        await self._call(self._filesystem.unlink, self.ids.node(parent_inode), name)

    @_handler
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext) -> None:
        await self._call(self._filesystem.rmdir, self.ids.node(parent_inode), name)

    @_handler
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        old, new = self.ids.node(parent_inode_old), self.ids.node(parent_inode_new)
        await self._call(self._filesystem.rename, old, name_old, new, name_new, flags)

    # -- file contents ------------------------------------------------------------------------------------------------

    @_handler
    async def open(self, inode: InodeT, flags: FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        node = self.ids.node(inode)
        return await self._opened(node, await self._call(self._filesystem.open, node, flags, _caller(ctx)), ctx)

    @_handler
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        parent = self.ids.node(parent_inode)
        entry, opened = await self._call(self._filesystem.create, parent, name, flags, mode, _caller(ctx))
        return await self._opened(entry.node, opened, ctx), self._entry(entry)

    @_handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        # pyfuse3 takes nothing but bytes.  They are copied before anything else runs: `_call` does not wait once more.
        return bytes(await self._call(self._filesystem.read, fh >> 1, off, size))

    @_handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await self._call(self._filesystem.write, fh >> 1, off, buf, bool(fh & 1))

    @_handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._call(self._filesystem.fsync, fh >> 1, datasync)

    async def release(self, fh: FileHandleT) -> None:
        """Nothing is kept for a handle."""

    # flush, access and poll stay as inherited: ENOSYS, after which the kernel does without and asks no more.

    # -- directories --------------------------------------------------------------------------------------------------

    @_handler
    async def opendir(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileHandleT:
        return FileHandleT(self.ids.node(inode))

    @_handler
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self._call(self._list, fh, start_id, token)

    async def releasedir(self, fh: FileHandleT) -> None:
        """Nothing is kept for a handle."""

    @_handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._call(self._filesystem.fsync, fh, datasync)

    # -- extended attributes ------------------------------------------------------------------------------------------

    @_handler
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._call(self._filesystem.getxattr, self.ids.node(inode), name)

    @_handler
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        # XATTR_CREATE and XATTR_REPLACE: pyfuse3 asks getxattr first and passes no flags on.
        await self._call(self._filesystem.setxattr, self.ids.node(inode), name, value, 0)

    @_handler
    async def listxattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(name) for name in await self._call(self._filesystem.listxattr, self.ids.node(inode), _caller(ctx))]

    @_handler
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: pyfuse3.RequestContext) -> None:
        await self._call(self._filesystem.removexattr, self.ids.node(inode), name)

    # -- what the handlers share ----------------------------------------------------------------------------------------

    async def _call(self, method: Callable[..., T], *args: Any) -> T:
        """Call a method of the contract, and again as often as it asks for work to be done first."""
        while True:
            try:
                return method(*args)
            except Blocking as blocking:
                self._blocked += 1
                # Shielded: a request that was read must be answered, or its caller waits for ever.
                with trio.CancelScope(shield=True):
                    result = await self._works.finish(blocking)
                if not blocking.restart:
                    return cast("T", result)
            except OSError as error:
                if not (lacks_descriptors(error) and self._filesystem.give_way()):
                    raise

    async def _opened(self, node: int, opened: Opened, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if opened.truncated and ctx.uid != 0:
            await self._call(self._filesystem.setattr, node, Changes(SET_KILL_SUIDGID), _caller(ctx))
        return pyfuse3.FileInfo(fh=FileHandleT(node << 1 | (ctx.uid != 0)), keep_cache=not opened.truncated)

    def _list(self, node: int, offset: int, token: pyfuse3.ReaddirToken) -> None:
        """Fill the reply with as many rows as fit."""
        listed = False
        try:
            for row in self._filesystem.readdirplus(node, offset):
                if not self._add_row(node, row, token):
                    return
                listed = True
        except (OSError, Blocking):
            # The rows in the reply are counted and cannot be taken back.  The next request starts at the row that failed.
            if not listed:
                raise

    def _add_row(self, directory: int, row: DirRow, token: pyfuse3.ReaddirToken) -> bool:
        """Whether there was room for the row."""
        entry = row.entry
        if entry is not None and entry.node == 0:
            # pyfuse3 cannot say "no lookup counted": a row has a node id or none of it is shown.
            entry = self._filesystem.lookup(directory, row.name)
            if entry is None:
                return True
            row = row._replace(entry=entry)
        is_dot = row.name in (b".", b"..")
        if entry is None:
            # Of the dots the kernel makes no inode, so nothing is counted.
            attributes = pyfuse3.EntryAttributes()
            attributes.st_ino = InodeT(row.ino if is_dot else self.ids.stand_in())
            attributes.st_mode = ModeT(row.kind << 12 if is_dot else 0)
        else:
            attributes = self._entry(entry)
        if pyfuse3.readdir_reply(token, FileNameT(row.name), attributes, row.offset):
            return True
        if not is_dot:
            self.ids.forget(attributes.st_ino, 1)
        if entry is not None:
            self._filesystem.unread(row)
        return False

    def _entry(self, entry: Entry) -> pyfuse3.EntryAttributes:
        kernel_id = InodeT(self.ids.look_up(entry.node, entry.attr.ino))
        attributes = self._attributes(kernel_id, entry.node, entry.attr)
        attributes.entry_timeout = self._settings.entry_timeout
        return attributes

    def _attributes(self, kernel_id: InodeT, node: int, attr: Attr) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = InodeT(attr.ino) if kernel_id == ROOT_ID else kernel_id
        attributes.attr_timeout = 0 if node in self._filesystem.stale else self._settings.attr_timeout
        attributes.st_mode = ModeT(attr.mode)
        attributes.st_nlink = attr.nlink
        attributes.st_uid = attr.uid
        attributes.st_gid = attr.gid
        attributes.st_rdev = attr.rdev
        attributes.st_size = attr.size
        attributes.st_blocks = attr.blocks
        attributes.st_blksize = attr.blksize
        attributes.st_atime_ns = attr.atime * _NANOSECONDS + attr.atimensec
        attributes.st_mtime_ns = attr.mtime * _NANOSECONDS + attr.mtimensec
        attributes.st_ctime_ns = attr.ctime * _NANOSECONDS + attr.ctimensec
        return attributes

    def _negative(self) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = InodeT(0)
        attributes.entry_timeout = self._settings.negative_timeout
        return attributes


def _valid(fields: pyfuse3.SetattrFields, ctx: pyfuse3.RequestContext) -> int:
    """``Changes.valid`` for what pyfuse3 says shall change."""
    valid = (
        fields.update_mode * SET_MODE
        | fields.update_uid * SET_UID
        | fields.update_gid * SET_GID
        | fields.update_size * SET_SIZE
        | fields.update_atime * SET_ATIME
        | fields.update_mtime * SET_MTIME
    )
    # What the kernel itself does without HANDLE_KILLPRIV: fs/open.c, do_truncate and chown_common.
    if valid & (SET_UID | SET_GID) or (valid & SET_SIZE and ctx.uid != 0):
        valid |= SET_KILL_SUIDGID
    return valid


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    # pyfuse3 cannot ask for DONT_MASK; MS_POSIXACL at mount(2) has the same effect, but fusermount3 has no option for it.  There
    # the kernel has applied the umask already, and applied once more it changes nothing.
    return Caller(ctx.uid, ctx.gid, ctx.pid, ctx.umask)
