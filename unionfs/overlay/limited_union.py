"""A union whose writable layer has a size limit that we keep by counting (`unionfs.overlay.size_limit`).

Each operation that can take room asks for it before, and reports what it took or gave back by looking at the real objects before
and after.  Only such unions pay for that.  Copy-ups and objects whose last user goes report by themselves (`StagedFile`,
`NodeTable`).

Writes must come here one by one: the kernel must neither pass them through nor keep them in a writeback cache, where the error
would come after write(2) had said that all is well.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import NoReturn

from unionfs.filesystem import SET_SIZE, Attr, Caller, Changes, Entry, Opened, StatFs
from unionfs.overlay import kinds
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Stack
from unionfs.overlay.options import Options
from unionfs.overlay.real_file import write_fd
from unionfs.overlay.size_limit import STAT_BLOCK, SizeLimit, blocks_of, count, open_limit
from unionfs.overlay.union import Union

_FALLOC_KEEP_SIZE = 0x01
# Punch, collapse and insert (linux/falloc.h): these take no blocks.
_FALLOC_TAKES_NONE = 0x02 | 0x08 | 0x20
_SHORT_SYMLINK = 59
"""Characters of a target that ext4 keeps in the inode; other filesystems keep more."""


class LimitedUnion(Union):
    """A writable `Union` with a limit."""

    def __init__(self, stack: Stack, options: Options, limit: int, *, pool_limit: int | None = None) -> None:
        """``limit``: bytes that the upper may take; besides that as `Union`.

        Raises:
            OSError: as `Union`; EROFS: there is nothing to limit in a read-only union.
        """
        super().__init__(stack, options, pool_limit=pool_limit)
        tree = self._tree
        try:
            self._limit: SizeLimit = open_limit(limit, self._roots(), tree.work.fd)
        except OSError:
            self.close()
            raise
        self._counted = tree.upper_layer
        tree.work.limit = self._limit
        self._nodes.on_orphan_end = self._orphan_ends

    def _roots(self) -> list[int]:
        tree = self._tree
        return [tree.upper_layer.root.fd, *([tree.index.place.fd] if tree.index is not None else ())]

    def _orphan_ends(self, fd: int) -> None:
        """An object that was kept though it had no name is let go of."""
        st = os.fstat(fd)
        if st.st_nlink == 0:
            self._limit.charge(-blocks_of(st))

    def _current(self) -> SizeLimit:
        tree = self._tree
        if tree.upper_layer is not self._counted:
            # A snapshot has put a new upper in the place of the old one, which now is a layer as all others.  What has no name
            # gives its room back when it ends, so it counts until then.
            self._counted = tree.upper_layer
            orphans = [os.fstat(inode.orphan_fd) for inode in self._nodes if inode.orphan_fd >= 0]
            self._limit.used = count(self._roots()) + sum(blocks_of(st) for st in orphans if st.st_nlink == 0)
        return self._limit

    @contextlib.contextmanager
    def _watched(self, *inodes: Inode) -> Iterator[SizeLimit]:
        """Report what the upper objects of ``inodes`` take more or less at the end.  What is copied up within reports that by
        itself."""
        limit = self._current()
        upper = [inode for inode in dict.fromkeys(inodes) if inode.is_upper]
        before = sum(blocks_of(self._tree.stat(inode)) for inode in upper)
        try:
            yield limit
        finally:
            after = sum(blocks_of(self._tree.stat(inode)) for inode in upper)
            limit.charge(after - before)

    # -- names ------------------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        with self._watched(self._nodes.get_directory(parent)) as limit:
            return self._charged(limit, super().mknod(parent, name, mode, rdev, caller))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        with self._watched(self._nodes.get_directory(parent)) as limit:
            limit.demand(limit.directory_cost)
            return self._charged(limit, super().mkdir(parent, name, mode, caller))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        with self._watched(self._nodes.get_directory(parent)) as limit:
            limit.demand(limit.block if len(target) > _SHORT_SYMLINK else 0)
            return self._charged(limit, super().symlink(parent, name, target, caller))

    @staticmethod
    def _charged(limit: SizeLimit, entry: Entry) -> Entry:
        limit.charge(entry.attr.blocks * STAT_BLOCK)
        return entry

    def link(self, node: int, parent: int, name: bytes) -> Entry:
        with self._watched(self._nodes.get_directory(parent)):
            return super().link(node, parent, name)

    def unlink(self, parent: int, name: bytes) -> None:
        directory = self._nodes.get_directory(parent)
        with self._watched(directory):
            self._know(directory, name)
            super().unlink(parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        with self._watched(self._nodes.get_directory(parent)):
            super().rmdir(parent, name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        directory, new_directory = self._nodes.get_directory(parent), self._nodes.get_directory(new_parent)
        with self._watched(directory, new_directory):
            super().rename(parent, name, new_parent, new_name, flags)

    def _know(self, directory: Directory, name: bytes) -> None:
        """Have an inode of what is about to lose its name: it reports what is given back when it ends."""
        if directory.children.get(name) is None:
            self._tree.find(directory, name)

    # -- contents ---------------------------------------------------------------------------------------------------------

    def open(self, node: int, flags: int, caller: Caller) -> Opened:
        if not flags & os.O_TRUNC:
            return super().open(node, flags, caller)
        with self._watched(self._nodes.get(node)):
            return super().open(node, flags, caller)

    def create(self, parent: int, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        directory = self._nodes.get_directory(parent)
        found = None if flags & os.O_EXCL else self._tree.find(directory, name)
        if found is not None:
            with self._watched(found[0]):
                return super().create(parent, name, flags, mode, caller)
        with self._watched(directory) as limit:
            entry, opened = super().create(parent, name, flags, mode, caller)
            return self._charged(limit, entry), opened

    def write(self, node: int, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        inode = self._copy_up.copy_up(self._nodes.get(node))
        with self._watched(inode) as limit:
            fits = limit.writable(write_fd(self._tree, inode), offset, len(data))
            if fits <= 0 < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(node, offset, data if fits == len(data) else memoryview(data)[:fits], kill_suidgid)

    def setattr(self, node: int, changes: Changes, caller: Caller) -> Attr:
        if not changes.valid & SET_SIZE:
            return super().setattr(node, changes, caller)
        inode = self._nodes.get(node)
        if inode.kind == kinds.REG:
            # Before the watching, so that what the copy is shortened by is seen.
            inode = self._copy_up.copy_up(inode, with_data=changes.size > 0)
        with self._watched(inode):
            return super().setattr(node, changes, caller)

    def fallocate(self, node: int, offset: int, length: int, mode: int) -> None:
        inode = self._copy_up.copy_up(self._nodes.get(node))
        with self._watched(inode) as limit:
            if not mode & _FALLOC_TAKES_NONE:
                fd = write_fd(self._tree, inode)
                if not limit.allocatable(fd, offset, length, bool(mode & _FALLOC_KEEP_SIZE)):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().fallocate(node, offset, length, mode)

    def copy_file_range(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> NoReturn:
        del source, source_offset, target, target_offset, length
        # For the kernel it means: read and write it yourself, and do not ask again.  Then it is counted as any write.
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    # -- extended attributes ------------------------------------------------------------------------------------------------

    def setxattr(self, node: int, name: bytes, value: bytes, flags: int) -> None:
        with self._watched(self._nodes.get(node)) as limit:
            limit.demand(len(value))
            super().setxattr(node, name, value, flags)

    def removexattr(self, node: int, name: bytes) -> None:
        with self._watched(self._nodes.get(node)):
            super().removexattr(node, name)

    # -- the whole ------------------------------------------------------------------------------------------------------------

    def statfs(self) -> StatFs:
        limit = self._current()
        real = os.fstatvfs(self._tree.upper_layer.root.fd)
        blocks, free, available = limit.shown(real)
        # Counted in blocks of f_frsize; f_bsize is only what is best to read at a time.
        return StatFs(blocks, free, available, real.f_files, real.f_ffree, real.f_bsize, real.f_namemax, real.f_frsize)

    def statistics(self) -> dict[str, int]:
        limit = self._current()
        return {**super().statistics(), "size_limit": limit.limit, "size_used": limit.used, "size_reserved": limit.reserved}
