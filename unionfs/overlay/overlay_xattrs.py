"""The union's own extended attributes: names, values, and how they are hidden.

Source of the format: Documentation/filesystems/overlayfs.rst and fs/overlayfs/xattrs.c of Linux.  What the kernel writes is
read here and the other way round.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

PREFIX = b"trusted.overlay."
_ESCAPE = b"overlay."
_LONGEST_NAME = 255

OPAQUE = PREFIX + b"opaque"
WHITEOUT = PREFIX + b"whiteout"

HIDES_ALL = b"y"
"""Value of `OPAQUE`: nothing below this directory is merged with it."""
HAS_XATTR_WHITEOUTS = b"x"
"""Value of `OPAQUE`: the directory may hold whiteouts that are empty files with `WHITEOUT`."""

_ABSENT = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


def opaque_value(fd: int) -> bytes:
    """Value of `OPAQUE` of an open directory; empty if it has none.

    A directory opened with O_PATH (no right to read it) cannot be asked, so it goes by its link in /proc.
    """
    try:
        return os.getxattr(b"/proc/self/fd/%d" % fd, OPAQUE)
    except OSError as error:
        if error.errno in _ABSENT:
            return b""
        raise


def is_xattr_whiteout(dir_fd: int, name: bytes) -> bool:
    """Whether the empty regular file ``name`` is a whiteout (any value counts)."""
    try:
        os.getxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), WHITEOUT, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def make_opaque(path: bytes) -> None:
    """Mark the upper directory at ``path`` (a path under /proc/self/fd)."""
    os.setxattr(path, OPAQUE, HIDES_ALL)


def stored_name(name: bytes) -> bytes:
    """The name under which a layer holds what a user calls ``name``: a name of the union's own gets one more ``overlay.`` so that
    unions can be nested.  EOPNOTSUPP where that gets too long."""
    if not name.startswith(PREFIX):
        return name
    stored = PREFIX + _ESCAPE + name[len(PREFIX) :]
    if len(stored) > _LONGEST_NAME:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    return stored


def shown_names(names: Iterable[bytes]) -> list[bytes]:
    """What listxattr(2) shows of the names that a layer holds: the union's own left out, escaped ones as the user wrote them."""
    shown = []
    for name in names:
        if not name.startswith(PREFIX):
            shown.append(name)
        elif name.startswith(PREFIX + _ESCAPE):
            shown.append(PREFIX + name[len(PREFIX) + len(_ESCAPE) :])
    return shown


def is_private(name: bytes) -> bool:
    """Whether a stored name is the union's own, so that a copy-up leaves it behind."""
    return name.startswith(PREFIX) and not name.startswith(PREFIX + _ESCAPE)
