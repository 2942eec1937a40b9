"""How layers say what is deleted: in a directory as the kernel's OverlayFS does, in a tar as the OCI image specification does.

In a directory (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"): a character device 0:0, or an empty
file with the attribute ``overlay.whiteout`` in a directory marked ``opaque=x``; a directory with the attribute
``overlay.opaque=y`` hides what is below.  In a tar (image-spec, layer.md): an empty file ``.wh.NAME``, and ``.wh..wh..opq`` in
the directory.
"""

from __future__ import annotations

import errno
import functools
import os
import stat

from unionfs.mounter.request import may_write_trusted_xattrs

TAR_WHITEOUT = b".wh."
TAR_OPAQUE = b".wh..wh..opq"
TAR_META = b".wh..wh."
"""How names begin that AUFS keeps for itself; but for `TAR_OPAQUE` they mean nothing in a layer."""

_ESCAPE = "overlay."
_YES, _HAS_WHITEOUTS = b"y", b"x"
# It has none; its filesystem has none; its kind (a device, a symbolic link) or its owner lets nobody see one.
_ABSENT = frozenset((errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES))


@functools.cache
def private_prefix() -> str:
    """How the attributes begin that a union made by this process takes for its own."""
    return "trusted.overlay." if may_write_trusted_xattrs() else "user.overlay."


def stored_name(name: str) -> str:
    """What a layer keeps an attribute ``name`` of an archive as: one that a union would take for a mark of its own is escaped, as
    OverlayFS does (fs/overlayfs/xattrs.c), so that nobody's archive can forge one."""
    prefix = private_prefix()
    return f"{prefix}{_ESCAPE}{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def shown_name(name: str) -> str | None:
    """The reverse; None for a mark of the union's own."""
    prefix = private_prefix()
    if not name.startswith(prefix):
        return name
    rest = name.removeprefix(prefix)
    return prefix + rest.removeprefix(_ESCAPE) if rest.startswith(_ESCAPE) else None


def is_whiteout_device(st: os.stat_result) -> bool:
    """Whether it is one of the kernel's whiteouts."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def is_whiteout(path: bytes, st: os.stat_result) -> bool:
    """Whether the object at ``path`` is a whiteout of either form."""
    return is_whiteout_device(st) or (stat.S_ISREG(st.st_mode) and st.st_size == 0 and _get(path, "whiteout") is not None)


def is_opaque(path: bytes) -> bool:
    """Whether the directory at ``path`` hides what is below it."""
    return _get(path, "opaque") == _YES


def make_opaque(directory: int) -> None:
    """Let an open directory hide what is below it.  Raises OSError: as setxattr(2)."""
    os.setxattr(directory, private_prefix() + "opaque", _YES)


def make_whiteout(directory: int, name: bytes) -> None:
    """Make a whiteout in an open directory where nothing has that name.  Raises OSError: as mknod(2), setxattr(2)."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
    except PermissionError:
        # Not by users outside of a user namespace (fs/namei.c, vfs_mknod, of Linux 5.8 and later; nobody before).
        _make_xattr_whiteout(directory, name)


def _make_xattr_whiteout(directory: int, name: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.setxattr(fd, private_prefix() + "whiteout", b"")
    finally:
        os.close(fd)
    mark = private_prefix() + "opaque"
    if _get(directory, "opaque") != _YES:
        os.setxattr(directory, mark, _HAS_WHITEOUTS)


def _get(target: bytes | int, mark: str) -> bytes | None:
    try:
        if isinstance(target, int):
            return os.getxattr(target, private_prefix() + mark)
        return os.getxattr(target, private_prefix() + mark, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
