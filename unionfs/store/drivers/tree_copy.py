"""Copies of what layers and trees hold: data (shared where the filesystem can), owner, mode, extended attributes, times, links.

The union's own attributes have a meaning in a layer only, and a tree may hold attributes of the same names, which stand in a
layer with one more ``overlay.`` (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts").  So how an attribute is
called in the copy depends on what is copied into what: `XattrNames`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from unionfs.linux.clone import clone_range
from unionfs.store.drivers.layer_stack import private_prefix

XattrNames = Callable[[str], str | None]
"""The name that an attribute gets in the copy; None: it is left out."""

# It cannot share blocks at all, not between these two filesystems, or not of this file.
_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)
_NO_XATTRS = (errno.EOPNOTSUPP,)
_MOST_AT_ONCE = 1 << 30
_ESCAPE = "overlay."


def layer_to_tree(name: str) -> str | None:
    """As a union shows the attributes of a layer."""
    prefix = private_prefix()
    if not name.startswith(prefix):
        return name
    rest = name.removeprefix(prefix)
    return prefix + rest.removeprefix(_ESCAPE) if rest.startswith(_ESCAPE) else None


def tree_to_layer(name: str) -> str | None:
    """As a union stores what programs set."""
    prefix = private_prefix()
    return prefix + _ESCAPE + name.removeprefix(prefix) if name.startswith(prefix) else name


def upper_to_layer(name: str) -> str | None:
    """An upper is a layer but for what it notes about the layers below (where a file came from, how many names it had): that
    would mean nothing over others."""
    prefix = private_prefix()
    is_kept = not name.startswith(prefix) or name.removeprefix(prefix).startswith((_ESCAPE, "opaque", "whiteout"))
    return name if is_kept else None


class TreeCopier:
    """Copies objects one by one; what were names of one file are names of one file again."""

    def __init__(self, xattr_names: XattrNames) -> None:
        self._xattr_names = xattr_names
        self._copied: dict[tuple[int, int], bytes] = {}

    def copy(self, source: bytes, status: os.stat_result, target: bytes) -> None:
        """Copy the object ``source`` (``status``: its own, by lstat) to ``target``, which is not there yet.  Of a directory only
        itself; its times are to be set once more by `copy_times` when everything is in it.

        Raises:
            OSError: as the system calls: ENOSPC, EPERM (a device, an owner, an attribute that this process may not make), …
        """
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            first = self._copied.setdefault((status.st_dev, status.st_ino), target)
            if first is not target:
                os.link(first, target, follow_symlinks=False)
                return
        _make(source, status, target)
        self.copy_metadata(source, status, target)

    def copy_metadata(self, source: bytes, status: os.stat_result, target: bytes) -> None:
        """Give ``target`` the owner, mode, attributes and times of ``source``.

        Raises:
            OSError: as for `copy`.
        """
        # chown(2) takes set-id bits and capabilities away, so what it would take comes after it; times last, as everything
        # changes them.
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, stat.S_IMODE(status.st_mode))
        for name in _list_xattrs(source):
            new_name = self._xattr_names(name)
            if new_name is not None:
                os.setxattr(target, new_name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        copy_times(status, target)


def copy_times(status: os.stat_result, target: bytes) -> None:
    """Set the times of access and change of ``target``.

    Raises:
        OSError: as utimensat(2).
    """
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _make(source: bytes, status: os.stat_result, target: bytes) -> None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        os.mkdir(target, 0o700)
    elif stat.S_ISREG(mode):
        _copy_data(source, status.st_size, target)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    else:
        os.mknod(target, stat.S_IFMT(mode) | 0o600, status.st_rdev)


def _copy_data(source: bytes, size: int, target: bytes) -> None:
    from_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        to_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _share_or_copy(from_fd, to_fd, size)
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)


def _share_or_copy(from_fd: int, to_fd: int, size: int) -> None:
    try:
        clone_range(to_fd, from_fd)
        return
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
    os.ftruncate(to_fd, size)
    position = 0
    while (begin := _next_data(from_fd, position)) is not None:
        end = os.lseek(from_fd, begin, os.SEEK_HOLE)
        os.lseek(to_fd, begin, os.SEEK_SET)
        position = begin
        while position < end:
            sent = os.sendfile(to_fd, from_fd, position, min(end - position, _MOST_AT_ONCE))
            if not sent:
                raise OSError(errno.EIO, "the file became shorter while it was copied")
            position += sent


def _next_data(fd: int, position: int) -> int | None:
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no more data
            return None
        raise


def _list_xattrs(path: bytes) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return []
        raise
