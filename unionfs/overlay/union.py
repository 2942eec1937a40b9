"""A union of directories: the filesystem contract, carried out by the parts of this package."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unionfs.filesystem import (
    Attr,
    Caller,
    Changes,
    DirRow,
    Entry,
    ExtendedFlags,
    Forgettable,
    Notice,
    Opened,
    StaleAttributes,
    StaleContents,
    StatFs,
    call_now,
)
from unionfs.journal.journal import NoJournal
from unionfs.journal.recovered import Recovered
from unionfs.overlay.attributes import Attributes, attr_of, new_tuple
from unionfs.overlay.contents import Contents
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.creation import Creation
from unionfs.overlay.detached_layers import DetachedLayers
from unionfs.overlay.directory_listing import DirectoryListing
from unionfs.overlay.explain import Explain
from unionfs.overlay.id_map import ACL_PREFIX
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.inode_bound import InodeBound
from unionfs.overlay.inode_flags import InodeFlags
from unionfs.overlay.layer import Layer, Stack, ask_elsewhere, readlink_in
from unionfs.overlay.layers_change import LayersChange, Underneath
from unionfs.overlay.live_merge import LiveMerge
from unionfs.overlay.live_rollback import LiveRollback
from unionfs.overlay.live_snapshot import LiveSnapshot, is_busy
from unionfs.overlay.options import Options
from unionfs.overlay.real_file import read_fd, remote_file
from unionfs.overlay.recovery import Found, recover
from unionfs.overlay.removal import Removal
from unionfs.overlay.rename import Rename
from unionfs.overlay.snapshots import Snapshots
from unionfs.overlay.succession import succeed
from unionfs.overlay.tree import Tree

_LONGEST_NAME = 255

DEFAULTS = Options()


class Union:
    """One mounted stack.  Implements `unionfs.filesystem.Filesystem`, whose docstrings say what the methods do."""

    def __init__(self, stack: Stack, options: Options = DEFAULTS, *, pool_limit: int | None = None) -> None:
        """Open the layers and empty the work directory.

        Args:
            stack: the directories.
            options: how it behaves.
            pool_limit: how many files and directories may be open at a time; default: from RLIMIT_NOFILE.

        Raises:
            OSError: a directory of the stack cannot be opened, or the work directory cannot be emptied.
        """
        self.writable = stack.upper is not None and not stack.read_only
        self._tree = tree = Tree(stack, options, pool_limit)
        self.has_acl = options.acl and options.xattrs and not tree.has_overrides
        """Whether the kernel is to heed access control lists.  Not where the real permissions do not count: an ACL is part of
        those."""
        self.notices: list[StaleAttributes | Forgettable] = tree.notices
        options = tree.possible(options)
        self._nodes = tree.nodes
        self._bound = InodeBound(tree.nodes, tree.notices, options.max_inodes)
        self.stale = tree.nodes.stale
        # In memory there is nothing to wait for, and a change of threads costs more than most requests.
        fsync = options.fsync if tree.upper_is_durable else "volatile"
        self._syncs = fsync != "volatile"
        self._copy_up = CopyUp(tree, fsync, options.metacopy)
        self._contents = Contents(tree, self._copy_up, fsync != "volatile")
        self._attributes = Attributes(tree, self._copy_up, self._contents, options.xattrs)
        self._flags = InodeFlags(tree, self._copy_up)
        self._creation = Creation(tree, self._copy_up)
        self._removal = Removal(tree, self._copy_up)
        self._rename = Rename(tree, self._copy_up, options.writes_redirects)
        self._listing = DirectoryListing(tree)
        self._explain = Explain(tree)
        self._detached = DetachedLayers()
        # Only now: who opens the stack waits for its layers.
        ask_elsewhere((*tree.lowers, *tree.data_only), tree.upper)

    # -- nodes ------------------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        tree = self._tree
        self._make_room()
        if len(name) > _LONGEST_NAME:
            # Said here, before anything is copied up for an operation that cannot succeed.
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        found = tree.find(self._nodes.get_directory(parent), name)
        if found is None:
            return None
        return self._entry(*found)

    def forget(self, node: int, nlookup: int) -> bool:
        inode = self._nodes.find(node)
        if inode is None:
            return False
        inode.nlookup = max(inode.nlookup - nlookup, 0)
        if inode.nlookup:
            self._nodes.touched[inode] = None
            return True
        self._nodes.release(inode)
        return False

    def getattr(self, node: int) -> Attr:
        inode = self._nodes.get(node)
        return attr_of(self._tree, inode, self._tree.stat(inode))

    def setattr(self, node: int, changes: Changes, caller: Caller) -> Attr:  # noqa: ARG002
        self._make_room()
        return self._attributes.setattr(self._to_change(node), changes)

    def readlink(self, node: int) -> bytes:
        inode = self._nodes.get(node)
        if inode.orphan_fd >= 0:
            return os.readlink(b"", dir_fd=inode.orphan_fd)
        return inode.place.ask(self._tree.pool, readlink_in, inode.place_name)

    def birth_time(self, node: int) -> int | None:
        return self._attributes.birth_time(self._nodes.get(node))

    def get_flags(self, node: int) -> int:
        return self._flags.get(self._nodes.get(node))

    def set_flags(self, node: int, flags: int) -> None:
        self._make_room()
        self._flags.set(self._to_change(node), flags)

    def get_extended_flags(self, node: int) -> ExtendedFlags:
        return self._flags.get_extended(self._nodes.get(node))

    def set_extended_flags(self, node: int, flags: ExtendedFlags) -> None:
        self._make_room()
        self._flags.set_extended(self._to_change(node), flags)

    def statfs(self) -> StatFs:
        st = (self._tree.upper or self._tree.lowers[0]).root.ask(self._tree.pool, os.fstatvfs)
        return StatFs(st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, st.f_bsize, st.f_namemax, st.f_frsize)

    def give_way(self) -> bool:
        return self._tree.pool.give_way()

    def _to_change(self, node: int) -> Inode:
        """The inode whose object a request about ``node`` is to change."""
        inode = self._nodes.get(node)
        if inode.node != node:
            # It stands for one that a copy-up left behind; what the kernel remembers of either it does not tell the other.
            self._tree.notices.append(StaleAttributes(inode.node))
        return inode

    def _make_room(self) -> None:
        """First step of whatever may open descriptors: only between two operations may others be closed for them."""
        if self._tree.pool.is_full:
            self._tree.pool.trim()

    def _entry(self, inode: Inode, st: os.stat_result) -> Entry:
        attr = attr_of(self._tree, inode, st)
        inode.nlookup += 1
        self._nodes.touched[inode] = None
        return new_tuple(Entry, (inode.node, attr))

    # -- names ------------------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        self._make_room()
        return self._entry(*self._creation.mknod(self._nodes.get_directory(parent), name, mode, rdev, caller))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        self._make_room()
        return self._entry(*self._creation.mkdir(self._nodes.get_directory(parent), name, mode, caller))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        self._make_room()
        return self._entry(*self._creation.symlink(self._nodes.get_directory(parent), name, target, caller))

    def link(self, node: int, parent: int, name: bytes) -> Entry:
        self._make_room()
        return self._entry(*self._creation.link(self._to_change(node), self._nodes.get_directory(parent), name))

    def unlink(self, parent: int, name: bytes) -> None:
        self._make_room()
        self._removal.unlink(self._nodes.get_directory(parent), name)

    def rmdir(self, parent: int, name: bytes) -> None:
        self._make_room()
        self._removal.rmdir(self._nodes.get_directory(parent), name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        self._make_room()
        nodes = self._nodes
        self._rename.rename(nodes.get_directory(parent), name, nodes.get_directory(new_parent), new_name, flags)

    # -- file contents ------------------------------------------------------------------------------------------------------

    def open(self, node: int, flags: int, caller: Caller) -> Opened:  # noqa: ARG002
        self._make_room()
        return self._contents.open(node, flags)

    def create(self, parent: int, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        tree = self._tree
        self._make_room()
        directory = self._nodes.get_directory(parent)
        if not flags & os.O_EXCL and tree.kind(directory, name) is not None:
            # Somebody else made it since the kernel looked.
            inode = tree.must_find(directory, name)
            opened = self._contents.prepare(inode, flags)
            return self._entry(inode, tree.stat(inode)), opened
        inode, st = self._creation.create(directory, name, mode, caller)
        return self._entry(inode, st), self._contents.created(inode)

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        self._make_room()
        inode, st = self._creation.tmpfile(self._nodes.get_directory(parent), mode, caller)
        return self._entry(inode, st), self._contents.created(inode)

    def pin(self, node: int) -> None:
        inode = self._nodes.find(node)
        if inode is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        inode.pins += 1

    def unpin(self, node: int) -> None:
        inode = self._nodes.find(node)
        if inode is not None:
            inode.pins -= 1
            if not inode.pins:
                self._nodes.written.discard(node)

    def backing_fd(self, node: int) -> int:
        inode = self._nodes.get(node)
        remote = remote_file(self._tree, inode) if inode.fd < 0 else None
        return read_fd(self._tree, inode) if remote is None else remote.lend()

    def read(self, node: int, offset: int, size: int) -> memoryview:
        self._make_room()
        return self._contents.read(self._nodes.get(node), offset, size)

    def write(self, node: int, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        self._make_room()
        return self._contents.write(self._to_change(node), offset, data, kill_suidgid)

    def copy_file_range(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        self._make_room()
        nodes = self._nodes
        return self._contents.copy_range(nodes.get(source), source_offset, nodes.get(target), target_offset, length)

    def fallocate(self, node: int, offset: int, length: int, mode: int) -> None:
        self._make_room()
        self._contents.fallocate(self._to_change(node), offset, length, mode)

    def lseek(self, node: int, offset: int, whence: int) -> int:
        return self._contents.lseek(self._nodes.get(node), offset, whence)

    def fsync(self, node: int, datasync: bool) -> None:
        self._contents.fsync(self._nodes.get(node), datasync)

    # -- directories --------------------------------------------------------------------------------------------------------

    def readdir(self, node: int, offset: int) -> Iterator[DirRow]:
        self._make_room()
        return self._listing.readdir(self._nodes.get_directory(node), offset)

    def readdirplus(self, node: int, offset: int) -> Iterator[DirRow]:
        self._make_room()
        return self._listing.readdirplus(self._nodes.get_directory(node), offset)

    def unread(self, row: DirRow) -> None:
        if row.entry is not None:
            self.forget(row.entry.node, 1)

    # -- extended attributes ------------------------------------------------------------------------------------------------

    def getxattr(self, node: int, name: bytes) -> bytes:
        return self._attributes.getxattr(self._nodes.get(node), name)

    def setxattr(self, node: int, name: bytes, value: bytes, flags: int) -> None:
        self._make_room()
        self._attributes.setxattr(self._to_change(node), name, value, flags)
        self._tell_of_acl(node, name)

    def listxattr(self, node: int, caller: Caller) -> list[bytes]:
        return self._attributes.listxattr(self._nodes.get(node), caller.uid == 0)

    def removexattr(self, node: int, name: bytes) -> None:
        self._make_room()
        self._attributes.removexattr(self._to_change(node), name)
        self._tell_of_acl(node, name)

    def _tell_of_acl(self, node: int, name: bytes) -> None:
        # An ACL changes the mode, which the kernel knows by itself only where it heeds ACLs.
        if not self.has_acl and name.startswith(ACL_PREFIX):
            self.notices.append(StaleAttributes(node))

    # -- the whole ------------------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        tree = self._tree
        return {
            "inodes": len(tree.nodes),
            "inodes_limit": self._bound.limit,
            "open_files": len(tree.pool),
            "open_files_limit": tree.pool.limit,
            "layers": len(tree.lowers) + len(tree.data_only) + (tree.upper is not None),
            "copy_ups": self._copy_up.count,
            "copied_up_bytes": self._copy_up.copied_bytes,
        }

    def mark_volatile(self) -> None:
        """Mark the upper as one that a crash may cost data: until somebody takes the mark away, no mount accepts it, ours or the
        kernel's.

        Raises:
            OSError: EROFS without an upper; the mark cannot be made.
        """
        self._tree.work.mark_volatile()

    def explain(self, path: bytes) -> dict[str, Any]:
        return self._explain.explain(path)

    # -- taking over ----------------------------------------------------------------------------------------------------------

    def use_journal(self, journal: NoJournal) -> None:
        """Write down there what another worker must know to go on; before the first request."""
        self._tree.use_journal(journal)

    def recover(self, recovered: Recovered) -> Found:
        """Go on from what another worker of this union has written down; in place of `use_journal`'s first request.

        Raises:
            OSError: a layer cannot be read.
        """
        return recover(self._tree, recovered, self._detached)

    def note_recovered(self, recovered: Recovered) -> None:
        """Have written down what `recover` found to be otherwise than ``recovered`` said."""
        intent, tree = recovered.intent, self._tree
        # They were given back; what moves them from here on is meant to.
        tree.journal.times_are_kept()
        for node in recovered.nodes:
            if tree.nodes.find(node) is None:
                tree.journal.note_gone(node)
        for fd in recovered.descriptors.difference(self.held_descriptors()):
            # Of what has kept its name after all, or is gone: it was named in the intent alone, or is not found again.
            tree.journal.close_later(fd)
        if intent is None:
            return
        for node in recovered.changed:
            inode = tree.nodes.find(node)
            if inode is not None:
                tree.nodes.touched[inode] = None
        for node, name in ((intent.parent, intent.name), (intent.new_parent, intent.new_name)):
            directory = tree.nodes.find(node)
            if isinstance(directory, Directory) and call_now(tree.kind, directory, name) is not None:
                tree.listed(directory, name)

    def held_descriptors(self) -> list[int]:
        """Of the objects without a name that the kernel knows: nothing leads to them any more but these."""
        return [inode.orphan_fd for inode in self._nodes if inode.orphan_fd >= 0]

    def everything(self) -> list[Notice]:
        """The kernel is to forget what it remembers of all that it knows."""
        return [StaleContents(inode.node) for inode in self._nodes]

    def begin_change(self) -> None:
        """What follows changes more than a request does: see `unionfs.journal.journal.Journal.begin_change`."""
        # What can be found again in the layers, an order or a number, cannot once these are others.
        self._keep_orders()
        self._tree.nodes.numbers.note(self._tree.nodes)
        self._tree.journal.flush()
        self._tree.journal.begin_change()

    def end_change(self) -> None:
        """It is over, and the kernel was told: everything is written down anew."""
        tree = self._tree
        tree.nodes.touch_all()
        self._keep_orders()
        tree.journal.flush()
        tree.journal.end_change()

    def _keep_orders(self) -> None:
        for inode in self._tree.nodes:
            if isinstance(inode, Directory):
                self._tree.keep_order(inode)

    def leave_behind(self, node: int) -> None:
        """The kernel's opens of ``node`` are of another real file than the one that its name leads to: from now on that has a
        node of its own."""
        inode = self._nodes.find(node)
        if inode is not None and (inode.rare is None or inode.rare.successor is None):
            successor = succeed(self._tree, inode)
            successor.data, successor.redirect, successor.lower_ctime = inode.data, inode.redirect, inode.lower_ctime

    # -- changes of the lower layers ------------------------------------------------------------------------------------------

    @property
    def lowers(self) -> list[Layer]:
        """The lower layers, top first."""
        return list(self._tree.lowers)

    def change_layers(self, lowers: list[Layer]) -> LayersChange:
        """Plan the change to other lower layers: some of `lowers`, and new ones of `open_lower`.

        Raises:
            OSError: a layer cannot be read, or not be used in this union.
        """
        return LayersChange(self._tree, lowers)

    def reread_layers(self, kernel_keeps_sizes: bool) -> LayersChange:
        """Plan reading the lower layers anew, because somebody changed them.

        ``kernel_keeps_sizes``: it believes no other size of a file than its own (writeback cache), so that a file that was
        written underneath must become another inode.  Errors as `change_layers`.
        """
        return LayersChange(self._tree, self.lowers, Underneath(kernel_keeps_sizes))

    # -- snapshots ------------------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a snapshot must wait, because another thread is writing to the upper."""
        return is_busy(self._tree, self._contents.copying_ranges)

    def prepare_snapshot(self, name: str | None) -> LiveSnapshot:
        """Begin a snapshot; nothing has changed before `LiveSnapshot.take`, which must come when the union is not `is_busy`.

        Raises:
            OSError: EINVAL: impossible for this union, in words; EEXIST: there is one of that name.
        """
        return LiveSnapshot(self._tree, name, sync=self._syncs)

    def prepare_rollback(self, name: str, keeps: bool) -> LiveRollback:
        """Begin to go back to a snapshot, given by number or name; ``keeps``: what there is now becomes a snapshot.  Nothing has
        changed before `LiveRollback.take`, which must come when the union is not `is_busy`.

        Raises:
            OSError: EINVAL: impossible for this union, in words; ENOENT: there is no such snapshot.
        """
        return LiveRollback(self._tree, name, self._detached, keeps=keeps, sync=self._syncs)

    def prepare_merge(self, numbers: Sequence[int]) -> LiveMerge:
        """Begin to make one layer of the snapshots ``numbers``, the topmost first, each next below the one before.

        Raises:
            OSError: EBUSY: a layer was added between them, or files are open in one that a rollback left.
        """
        return LiveMerge(self._tree, numbers, self._detached, sync=self._syncs)

    def set_snapshot_aside(self, number: int) -> Path:
        """Give up a snapshot that nothing is built on; the directory that is to be removed then, by whoever has the time.

        Raises:
            OSError: EBUSY: files are open in it, since before a rollback.
        """
        snapshots = Snapshots(self._tree.upper_layer.path, self._tree.xattrs)
        self._detached.refuse_in_use(self._tree, snapshots.layers((number,)))
        return snapshots.set_aside(number)

    def close(self) -> None:
        self._tree.close()
        self._detached.close()
