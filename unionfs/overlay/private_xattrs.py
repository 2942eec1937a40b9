"""The union's own extended attributes: names, values, and how they are hidden.

Source of the format: Documentation/filesystems/overlayfs.rst and fs/overlayfs/{xattrs,util,namei}.c of Linux.  What the kernel
writes is read here and the other way round.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

_ESCAPE = b"overlay."
_LONGEST_NAME = 255

HIDES_ALL = b"y"
"""Value of ``opaque``: nothing below this directory is merged with it."""
HAS_XATTR_WHITEOUTS = b"x"
"""Value of ``opaque``: the directory may hold whiteouts that are empty files with the attribute ``whiteout``."""

_FUSE_OVERLAYFS_OPAQUE = b"user.fuseoverlayfs.opaque"
"""How fuse-overlayfs, and through it rootless podman, marks directories where it may not write ``trusted.``; read only."""

_ABSENT = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
# EACCES: of a user who may not write the object, such as the owner of a read-only file.
_CANNOT_HOLD = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
_YES = b"y"
_NO = b"0"


class PrivateXattrs:
    """The attributes of one namespace.  Paths are such under /proc/self/fd; a last component that is a symbolic link is not
    followed unless the path is that of an open descriptor itself (``follow``).

    Attributes:
        prefix: what all the names begin with.
        is_user: whether they lie in ``user.``, where symbolic links and special files can have none.
    """

    def __init__(self, user: bool = False) -> None:
        """``user``: use ``user.overlay.`` (option ``userxattr``, for those who may not write ``trusted.overlay.``)."""
        self.is_user = user
        self.prefix = b"user.overlay." if user else b"trusted.overlay."
        self._opaque = self.prefix + b"opaque"
        self._whiteout = self.prefix + b"whiteout"
        self._origin = self.prefix + b"origin"
        self._impure = self.prefix + b"impure"
        self._redirect = self.prefix + b"redirect"
        self._metacopy = self.prefix + b"metacopy"
        self._nlink = self.prefix + b"nlink"
        self._upper = self.prefix + b"upper"
        self._first_origin = self.prefix + b"unionfs.origin"
        self.snapshots = self.prefix + b"unionfs.snapshots"
        self.made_with = self.prefix + b"unionfs.made-with"
        """These two: see `unionfs.overlay.snapshots`."""
        self._escaped = self.prefix + _ESCAPE

    # -- reading ------------------------------------------------------------------------------------------------------

    def opaque(self, dir_fd: int) -> bytes:
        """Value of ``opaque`` of an open directory; empty if it has none."""
        value = self._of_directory(dir_fd, self._opaque)
        if not value and self.is_user:
            return self._of_directory(dir_fd, _FUSE_OVERLAYFS_OPAQUE)
        return value

    def is_whiteout(self, dir_fd: int, name: bytes) -> bool:
        """Whether the empty regular file ``name`` is a whiteout (any value counts)."""
        try:
            os.getxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), self._whiteout, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        return True

    def origin(self, path: bytes) -> bytes:
        """Value of ``origin``; empty if there is none, or if it says no more than that there was one."""
        return self._get(path, self._origin)

    def first_origin(self, path: bytes) -> bytes:
        """The origin of an object's origin that is in a snapshot and shows the number of that; empty if there is none."""
        return self._get(path, self._first_origin)

    def is_impure(self, dir_fd: int) -> bool:
        """Whether a directory may hold objects with an origin."""
        return self._of_directory(dir_fd, self._impure) == _YES

    def redirect_of(self, dir_fd: int) -> bytes:
        """Value of ``redirect`` of an open directory; empty if there is none."""
        return self._of_directory(dir_fd, self._redirect)

    def redirect(self, path: bytes) -> bytes:
        """Value of ``redirect``; empty if there is none."""
        return self._get(path, self._redirect)

    def metacopy(self, path: bytes, follow: bool = False) -> bytes | None:
        """Value of ``metacopy``, which may be empty; None if there is none."""
        try:
            return os.getxattr(path, self._metacopy, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def nlink(self, path: bytes) -> bytes:
        """Value of ``nlink``; empty if there is none."""
        return self._get(path, self._nlink)

    def index_of(self, dir_fd: int) -> bytes:
        """Value of ``upper`` of an open index: the handle of the upper it belongs to; empty if there is none."""
        return self._of_directory(dir_fd, self._upper)

    def _of_directory(self, fd: int, name: bytes) -> bytes:
        # The way through /proc takes three times as long, which counts where hundreds of layers are merged.
        try:
            return os.getxattr(fd, name)
        except OSError as error:
            if error.errno in _ABSENT:
                return b""
            if error.errno != errno.EBADF:
                raise
        # Opened with O_PATH, as one that may not be read is.
        return self._get(b"/proc/self/fd/%d" % fd, name, follow=True)

    def _get(self, path: bytes, name: bytes, follow: bool = False) -> bytes:
        try:
            return os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _ABSENT:
                return b""
            raise

    # -- writing ------------------------------------------------------------------------------------------------------

    def can_mark(self, dir_fd: int) -> bool:
        """Whether objects of the filesystem of an open directory can have these attributes; tried out on that one."""
        path = b"/proc/self/fd/%d" % dir_fd
        if not self._try_set(path, self._opaque, _NO, follow=True):
            return False
        os.removexattr(path, self._opaque)
        return True

    def make_opaque(self, path: bytes, follow: bool = False) -> None:
        """Mark a directory opaque."""
        os.setxattr(path, self._opaque, HIDES_ALL, follow_symlinks=follow)

    def make_whiteout(self, path: bytes) -> None:
        """Make a whiteout of an empty regular file; only in a directory for which `announce_whiteouts` was called it is one."""
        os.setxattr(path, self._whiteout, _YES, follow_symlinks=False)

    def announce_whiteouts(self, dir_fd: int) -> None:
        """Say that a directory, which is not opaque, may hold such files."""
        os.setxattr(b"/proc/self/fd/%d" % dir_fd, self._opaque, HAS_XATTR_WHITEOUTS)

    def set_metacopy(self, fd: int) -> None:
        """Mark an open file as a metadata-only copy."""
        os.setxattr(fd, self._metacopy, b"")

    def remove_metacopy(self, fd: int) -> None:
        """An open file has its data itself now, so that its redirect leads nowhere any more."""
        for name in (self._metacopy, self._redirect):
            try:
                os.removexattr(fd, name)
            except OSError as error:
                # The first may be gone: from an earlier attempt, which failed at the second.
                if error.errno not in _ABSENT:
                    raise

    def set_redirect(self, path: bytes, value: bytes) -> None:
        """Let a directory be merged with what the layers below have at ``value``, or a metadata-only copy have that data."""
        os.setxattr(path, self._redirect, value, follow_symlinks=False)

    def set_origin(self, path: bytes | int, value: bytes, follow: bool) -> bool:
        """Note where an object, at a path or open, was copied up from; false where it can have no such attribute (best effort, as
        in OverlayFS)."""
        return self._try_set(path, self._origin, value, follow)

    def set_first_origin(self, path: bytes | int, value: bytes, follow: bool) -> None:
        """See `first_origin`."""
        os.setxattr(path, self._first_origin, value, follow_symlinks=follow)

    def remove_origin(self, layer: Path) -> None:
        """A layer's root has none any more."""
        try:
            os.removexattr(layer, self._origin)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise

    def set_nlink(self, path: bytes | int, value: bytes, follow: bool = False) -> None:
        """Note how many names the union shows of a file that is, or is about to be, in the index."""
        os.setxattr(path, self._nlink, value, follow_symlinks=follow)

    def set_index_of(self, dir_fd: int, value: bytes) -> None:
        """Note which upper an open index belongs to."""
        os.setxattr(b"/proc/self/fd/%d" % dir_fd, self._upper, value)

    def set_impure(self, dir_fd: int) -> bool:
        """Mark a directory that is to hold an object with an origin; false where it can have no such attribute."""
        return self._try_set(b"/proc/self/fd/%d" % dir_fd, self._impure, _YES, follow=True)

    @staticmethod
    def _try_set(path: bytes | int, name: bytes, value: bytes, follow: bool) -> bool:
        try:
            os.setxattr(path, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _CANNOT_HOLD:
                return False
            raise
        return True

    # -- what users see -----------------------------------------------------------------------------------------------

    def stored_name(self, name: bytes) -> bytes | None:
        """The name under which a layer holds what a user calls ``name``: one of the union's own gets one more ``overlay.``, so
        that unions can be nested.  EOPNOTSUPP where that gets too long.  None: users have nothing of that name, neither to see
        nor to set."""
        if self._is_reserved(name):
            return None
        if not name.startswith(self.prefix):
            return name
        stored = self._escaped + name[len(self.prefix) :]
        if len(stored) > _LONGEST_NAME:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return stored

    def shown_names(self, names: Iterable[bytes]) -> list[bytes]:
        """What listxattr(2) shows of the names that a layer holds: the union's own left out, escaped ones as the user wrote
        them."""
        shown = []
        for name in names:
            if self._is_reserved(name):
                continue
            if not name.startswith(self.prefix):
                shown.append(name)
            elif name.startswith(self._escaped):
                shown.append(self.prefix + name[len(self._escaped) :])
        return shown

    def is_private(self, name: bytes) -> bool:
        """Whether a stored name is the union's own, so that a copy-up leaves it behind."""
        return self._is_reserved(name) or (name.startswith(self.prefix) and not name.startswith(self._escaped))

    def _is_reserved(self, name: bytes) -> bool:
        # Where it is heeded, whoever owns a directory could hide with it what others see below.
        return self.is_user and name == _FUSE_OVERLAYFS_OPAQUE
