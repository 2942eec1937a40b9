"""Descriptors of the regular files behind inodes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from unionfs.filesystem import StaleAttributes
from unionfs.linux.chmod import change_mode
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.fd_pool import close
from unionfs.overlay.inode import Inode
from unionfs.overlay.remote_layer import Place, RemoteLayer
from unionfs.overlay.tree import Tree

T = TypeVar("T")

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file of a layer is opened: neither a link nor a fifo that somebody has put there leads or holds us anywhere."""

_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read_fd(tree: Tree, inode: Inode) -> int:
    """A descriptor to read ``inode`` by; good until the end of the operation.

    Raises:
        OSError: what open(2) gives.
    """
    if inode.fd < 0:
        inode.fd, inode.fd_writable = _open_data(tree, inode), False
        tree.pool.add(inode)
    inode.recent = True
    return inode.fd


def write_fd(tree: Tree, inode: Inode) -> int:
    """The same to write by; the inode is in the upper layer with its data.

    Raises:
        OSError: what open(2) gives; ETXTBSY while the upper file itself is being executed.
    """
    if inode.fd < 0 or not inode.fd_writable:
        fd = open_for_writing(tree, inode)
        close(inode)
        inode.fd, inode.fd_writable = fd, True
        tree.pool.add(inode)
    inode.recent = True
    return inode.fd


class RemoteFile(NamedTuple):
    """The file of a remote layer that has the data of an inode."""

    layer: RemoteLayer
    place: Place
    name: bytes

    def opened(self) -> AbstractContextManager[int]:
        """See `RemoteLayer.opened`."""
        return self.layer.opened(self.place, self.name)

    def read(self, read: Callable[[int], T]) -> T:
        """See `RemoteLayer.read`."""
        return self.layer.read(self.place, self.name, read)

    def lend(self) -> int:
        """See `RemoteLayer.lend`."""
        return self.layer.lend(self.place, self.name)


def remote_file(tree: Tree, inode: Inode) -> RemoteFile | None:
    """What has the data of ``inode``, if that is in a remote layer: then `read_fd` is not for it.

    Raises:
        OSError: as `find_data`.
    """
    place, name = inode.place, inode.place_name
    if inode.rare is not None and inode.data is not None:
        place, name, _ = find_data(tree, inode)
    remote = place.layer.remote
    return None if remote is None else RemoteFile(remote, place.names(), name)


def open_lower_file(tree: Tree, inode: Inode) -> int:
    """A descriptor of its own for reading a lower file, to be closed by the caller."""
    return _open_data(tree, inode)


def _open_data(tree: Tree, inode: Inode) -> int:
    if inode.rare is None or inode.data is None:
        return open_own(tree, inode, READ)
    data = find_data(tree, inode)
    return os.open(data.name, READ, dir_fd=tree.dir_fd(data.place))


def find_data(tree: Tree, inode: Inode) -> DataPlace:
    """Where the data of a metadata-only copy is; looked for now, if it is in a data-only layer and nobody wanted it before.

    Raises:
        OSError: ENOENT: no data-only layer has it.
    """
    data = inode.data
    assert data is not None
    if isinstance(data, DataPlace):
        return data
    inode.data = found = tree.metacopies.find(data)
    if found.blocks != data.blocks:
        tree.notices.append(StaleAttributes(inode.node))
    return found


def open_own(tree: Tree, inode: Inode, flags: int) -> int:
    """Open the real object itself, which need not have the data; no link is followed, and no fifo waited for, that somebody has
    put in its place."""
    if inode.orphan_fd >= 0:
        return os.open(b"/proc/self/fd/%d" % inode.orphan_fd, flags & ~os.O_NOFOLLOW)
    return os.open(inode.place_name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=tree.dir_fd(inode.place))


def open_for_writing(tree: Tree, inode: Inode) -> int:
    """A descriptor of its own for reading and writing the upper object itself."""
    try:
        return open_own(tree, inode, _WRITE)
    except PermissionError as error:
        # Whoever made a read-only file may write it through the descriptor that made it.  Ours may have been closed since, so an
        # unprivileged owner must be let in again.
        if error.errno != errno.EACCES:
            raise
    path = tree.path(inode)
    mode = tree.stat(inode).st_mode & 0o7777
    _chmod(inode, path, mode | 0o600)
    try:
        return open_own(tree, inode, _WRITE)
    finally:
        _chmod(inode, path, mode)


def _chmod(inode: Inode, path: bytes, mode: int) -> None:
    if inode.orphan_fd >= 0:  # its path is a link in /proc
        os.chmod(path, mode)
    else:
        change_mode(path, mode)
