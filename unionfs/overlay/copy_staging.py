"""The copies that a copy-up makes ready in the work directory, complete with data and metadata, before they are installed.

The order within one copy (fs/overlayfs/copy_up.c has the same, for the same reasons): data before owner, because a write by an
unprivileged process would drop set-id bits and capabilities; owner before mode and xattrs, because chown(2) drops set-id bits and
``security.capability``; times last.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from enum import Enum

from unionfs.filesystem import Blocking
from unionfs.linux.times import NOW, set_times
from unionfs.overlay import kinds
from unionfs.overlay.copy_target import Target, install, origin_of, set_origin
from unionfs.overlay.data_copy import DataCopy, InPlaceCopy, Reflinks, Settling, StagedWork
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import readlink_in
from unionfs.overlay.metadata_copy import ask_for_metadata, copy_metadata
from unionfs.overlay.options import Fsync
from unionfs.overlay.real_file import open_for_writing, open_lower_file, remote_file
from unionfs.overlay.tree import Tree
from unionfs.overlay.work_dir import StagedFile

_QUICK = 128 << 10
"""Bytes that are copied faster than two threads change places."""


class Extent(Enum):
    """How much of a regular file is copied up."""

    ALL = "all"
    EMPTY = "empty"
    METADATA = "metadata"


class CopyStaging:
    """Makes the copies for one union.

    What takes long is done in another thread: each method raises `Blocking` until it is, and then returns what was made.

    Attributes:
        bytes: how many of data were copied so far.
    """

    def __init__(self, tree: Tree, fsync: Fsync) -> None:
        """``fsync``: what is made durable before it is installed."""
        self._tree = tree
        self._sync = fsync != "volatile"
        self._is_strict = fsync == "strict"
        self._reflinks = Reflinks()
        self.bytes = 0

    def directory(self, directory: Directory) -> StagedFile:
        """A staged directory that looks like ``directory``."""
        tree = self._tree
        if directory.copying is not None:
            return _finished(directory.copying, directory)
        st = tree.stat(directory)
        _ask_beforehand(tree, directory, st)
        staged = tree.work.make_directory()
        try:
            tree.xattrs.set_origin(staged.fd, origin_of(tree, directory, st), follow=True)
            copy_metadata(tree, directory, staged, st)
        except (OSError, Blocking):
            staged.drop()
            raise
        if self._is_strict:
            directory.copying = Settling(staged, without_data=True)
            raise Blocking(directory.copying)
        return staged

    def file(self, inode: Inode, target: Target | None, st: os.stat_result, extent: Extent) -> tuple[StagedFile, Extent]:
        """A staged file that is all that the copy of the regular file ``inode`` at ``target`` shall be, and how much it is a copy
        of: somebody else may have begun another one."""
        settling = inode.copying
        if isinstance(settling, Settling) and settling.without_data and target is None:
            # It has lost its last name meanwhile, and by what name should it find its data then?
            settling.abandon()
            inode.copying = settling = None
        if isinstance(settling, Settling):
            return _finished(settling, inode), Extent.METADATA if settling.without_data else Extent.ALL
        staged = self._complete(inode, target, st, extent)
        if self._is_strict and target is not None:
            inode.copying = Settling(staged, extent is Extent.METADATA)
            raise Blocking(inode.copying)
        return staged, extent

    def _complete(self, inode: Inode, target: Target | None, st: os.stat_result, extent: Extent) -> StagedFile:
        _ask_beforehand(self._tree, inode, st)
        staged = self._with_data(inode, st.st_size if extent is Extent.ALL else 0)
        try:
            if extent is Extent.METADATA:
                os.ftruncate(staged.fd, st.st_size)
                self._tree.xattrs.set_metacopy(staged.fd)
                if target is not None and target.parent is not None:
                    # Also where it gets no origin: who looks for metadata-only copies goes by that mark.
                    self._tree.mark_impure(target.parent)
            if target is not None:
                # Before the mode: of a file that is read-only then an unprivileged owner could not set attributes.
                set_origin(self._tree, inode, target, staged.fd, st)
            copy_metadata(self._tree, inode, staged, st)
            if extent is Extent.EMPTY:
                set_times(staged.fd, st.st_atime_ns, NOW)
            return staged
        except (OSError, Blocking):
            staged.drop()
            raise

    def _with_data(self, inode: Inode, size: int) -> StagedFile:
        """A staged file that holds the first ``size`` bytes of ``inode``: all or nothing."""
        copying = inode.copying
        if copying is None:
            staged = self._tree.work.make_file()
            if size == 0:
                return staged
            source, lane = self._source(inode, staged)
            copying = inode.copying = DataCopy(source, staged, size, self._sync and not self._is_strict, self._reflinks)
            copying.lane = lane
        return self._copied(copying, inode, size)

    def data_in_place(self, inode: Inode, size: int) -> int:
        """A descriptor of the upper file of the metadata-only copy ``inode``, with ``size`` bytes of data in it: all or nothing.

        They are written into the file itself: as long as it is marked as metadata-only, the data below counts.
        """
        tree = self._tree
        copying = inode.copying
        if copying is None:
            fd = open_for_writing(tree, inode)
            if size == 0:
                return fd
            target = tree.work.stage(fd, None)
            source, lane = self._source(inode, target)
            copying = inode.copying = InPlaceCopy(source, target, size, self._sync, self._reflinks)
            copying.lane = lane
        staged = self._copied(copying, inode, size)
        try:
            staged.account(already=staged.made.st_blocks)
        except OSError:
            staged.drop()
            raise
        return staged.fd

    def _source(self, inode: Inode, staged: StagedFile) -> tuple[contextlib.AbstractContextManager[int], object | None]:
        """The lower file, whose data ``staged`` has room for, and the lane of who copies it; after an error ``staged`` is
        dropped."""
        tree = self._tree
        try:
            remote = remote_file(tree, inode)
            if remote is not None:
                blocks = inode.data.blocks if inode.data is not None else tree.stat(inode).st_blocks
                staged.reserve(blocks * 512)
                return remote.opened(), remote.layer
            source_fd = open_lower_file(tree, inode)
        except (OSError, Blocking):
            staged.drop()
            raise
        try:
            staged.reserve(os.fstat(source_fd).st_blocks * 512)
        except OSError:
            os.close(source_fd)
            staged.drop()
            raise
        return _closing(source_fd), None

    def _copied(self, copying: StagedWork, inode: Inode, size: int) -> StagedFile:
        """What has the ``size`` bytes of data of ``inode`` once ``copying`` is done."""
        if not self._sync and size <= _QUICK and copying.lane is None:
            # Nothing to wait for but memory: another thread would cost more than the copying.
            copying()
        staged = _finished(copying, inode)
        self.bytes += size
        return staged


def _ask_beforehand(tree: Tree, inode: Inode, st: os.stat_result) -> None:
    """Ask a remote layer for all that the copy will be made of: what is made when `Blocking` comes is made in vain."""
    real = inode.top if isinstance(inode, Directory) else inode.place
    if real.layer.remote is not None:
        origin_of(tree, inode, st)
        ask_for_metadata(tree, inode, st)


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _finished(work: StagedWork, inode: Inode) -> StagedFile:
    """What ``work``, the part of the copy-up of ``inode`` that is under way, has staged; raises `Blocking` until it has."""
    if not work.done:
        raise Blocking(work, lane=work.lane)
    inode.copying = None
    if work.error is not None:
        work.abandon()
        raise work.error
    return work.staged


def copy_special(tree: Tree, inode: Inode, target: Target | None, st: os.stat_result) -> os.stat_result:
    """Copy a symbolic link, device, fifo or socket with the attributes ``st``, and install it: there is nothing to wait for.

    Returns the attributes of the copy; without a ``target`` that is the orphan of ``inode`` from now on.
    """
    work = tree.work
    _ask_beforehand(tree, inode, st)
    linked = inode.place.ask(tree.pool, readlink_in, inode.place_name) if inode.kind == kinds.LNK else b""
    with work.staged(work.new_name()) as staged:
        if linked:
            os.symlink(linked, staged, dir_fd=work.fd)
        else:
            os.mknod(staged, stat.S_IFMT(st.st_mode) | 0o600, st.st_rdev, dir_fd=work.fd)
        path = b"/proc/self/fd/%d/%s" % (work.fd, staged)
        copy_metadata(tree, inode, path, st)
        if target is None:
            copied = os.stat(staged, dir_fd=work.fd, follow_symlinks=False)
            inode.orphan_fd = os.open(staged, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
            return copied
        set_origin(tree, inode, target, path, st)
        copied = os.stat(staged, dir_fd=work.fd, follow_symlinks=False)
        install(
            tree,
            target.parent,
            target.place,
            lambda fd: os.rename(staged, target.name, src_dir_fd=work.fd, dst_dir_fd=fd),
        )
        return copied
