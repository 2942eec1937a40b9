"""Owners, modes and types of objects kept in an extended attribute, for those who may not set the real ones.

Source of the format: fuse-overlayfs (utils.c, override_mode) and containers/storage (pkg/idtools), which write ``uid:gid:mode``,
the mode octal and with or without the bits of the type, or ``uid:gid:mode:type``, where the type is ``dir``, ``file``,
``symlink``, ``pipe``, ``socket``, ``block-MAJOR-MINOR`` or ``char-MAJOR-MINOR``.  Only regular files and directories can have the
attribute.  A layer has one of three names for it; its root directory tells which.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple

from unionfs.overlay import kinds

# Digits are counted: any owner of a file may have written it, and the time that int() takes grows faster than their number.
_FORMAT = re.compile(
    rb"(\d{1,10}):(\d{1,10}):([0-7]{1,11})(?::(dir|file|symlink|pipe|socket|(block|char)-*(\d{1,10})[-:](\d{1,10}))[^:]*)?\0?"
)
_TYPES = {
    b"dir": stat.S_IFDIR,
    b"file": stat.S_IFREG,
    b"symlink": stat.S_IFLNK,
    b"pipe": stat.S_IFIFO,
    b"socket": stat.S_IFSOCK,
    b"block": stat.S_IFBLK,
    b"char": stat.S_IFCHR,
}
_NONE = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
_LARGEST_ID = 0xFFFFFFFE
_LARGEST_DEVICE_PART = 0xFFFFFFFF
_SECURITY = b"security."
_ENCODED = b"user.containers.override_"
_LONGEST_NAME = 255

REAL_PERMISSIONS = 0o755
"""Those of the real object, whatever is stored: enough for whoever serves the union, and for others who mount the layer without
being its owner (fuse-overlayfs adds them for that).  No more, since its real owner is not the one who was to have the rest."""


class Stored(NamedTuple):
    """What a layer says of an object: ids before `unionfs.overlay.id_map`, mode with type, device number.

    ``suffix`` is what follows the mode in the attribute (``:char-1-3``), or empty.
    """

    uid: int
    gid: int
    mode: int
    rdev: int
    suffix: bytes = b""

    @classmethod
    def of(cls, st: os.stat_result) -> Stored:
        """Where no attribute says otherwise."""
        return cls(st.st_uid, st.st_gid, st.st_mode, st.st_rdev)


class StatOverride:
    """The attribute under one of its names.

    Attributes:
        name: the attribute.
        encodes_security: whether ``security.*`` attributes are kept as ``user.containers.override_security.*`` as well.
    """

    def __init__(self, name: bytes, encodes_security: bool = False) -> None:
        self.name = name
        self.encodes_security = encodes_security

    def read(self, path: bytes | int, follow: bool, real: Stored) -> Stored:
        """What counts for the object at ``path``, or with that descriptor; ``real``: where it has no attribute.

        Raises:
            OSError: EINVAL: the attribute is malformed.
        """
        if not can_hold(real.mode):
            return real
        try:
            value = os.getxattr(path, self.name, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _NONE:
                return real
            raise
        return _parse(value, real)

    def write(self, path: bytes | int, follow: bool, stored: Stored) -> None:
        """Give the regular file or directory at ``path``, or with that descriptor, these owners and permissions."""
        value = b"%d:%d:%o" % (stored.uid, stored.gid, stat.S_IMODE(stored.mode))
        os.setxattr(path, self.name, value + stored.suffix, follow_symlinks=follow)

    def is_in(self, root_fd: int) -> bool:
        """Whether the root directory of a layer has it, which says that the layer uses this name."""
        try:
            os.getxattr(b"/proc/self/fd/%d" % root_fd, self.name)
        except OSError as error:
            if error.errno in _NONE:
                return False
            raise
        return True

    # -- attributes of users ----------------------------------------------------------------------------------------------

    def stored_name(self, name: bytes) -> bytes | None:
        """Under which name the layer holds the attribute that a user calls ``name``; None for the one that has the owner: who
        could write that could be anybody."""
        if name in OWN_NAMES:
            return None
        if not (self.encodes_security and name.startswith(_SECURITY)):
            return name
        if len(_ENCODED) + len(name) > _LONGEST_NAME:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return _ENCODED + name

    def shown_name(self, stored: bytes) -> bytes | None:
        """The reverse; None: users do not see it."""
        if stored in OWN_NAMES or (self.encodes_security and stored.startswith(_SECURITY)):
            return None
        return stored.removeprefix(_ENCODED) if self.encodes_security and stored.startswith(_ENCODED + _SECURITY) else stored


PRIVILEGED = StatOverride(b"security.fuseoverlayfs.override_stat")
CONTAINERS = StatOverride(b"user.containers.override_stat", encodes_security=True)
USER = StatOverride(b"user.fuseoverlayfs.override_stat")
"""What fuse-overlayfs up to 1.10 wrote where `CONTAINERS` is written now."""

FORMS = (PRIVILEGED, CONTAINERS, USER)
"""In the order in which they count for a layer that has several."""

OWN_NAMES = frozenset(form.name for form in FORMS)


def form_of(root_fd: int) -> StatOverride | None:
    """The form that a layer uses, by its root directory; None: real owners count in it."""
    return next((form for form in FORMS if form.is_in(root_fd)), None)


def can_hold(mode: int) -> bool:
    """Whether an object of this ``st_mode`` can have the attribute."""
    return mode >> 12 in (kinds.REG, kinds.DIR)


def _parse(value: bytes, real: Stored) -> Stored:
    found = _FORMAT.fullmatch(value)
    if found is None or max(int(found[1]), int(found[2])) > _LARGEST_ID or _device_part(found) > _LARGEST_DEVICE_PART:
        raise OSError(errno.EINVAL, f"invalid owner {value!r} in a layer")
    kind, rdev = stat.S_IFMT(real.mode), real.rdev
    suffix = b""
    if found[4] is not None:
        kind = _TYPES[found[5] or found[4]]
        suffix = b":" + found[4]
        if found[5] is not None:
            rdev = os.makedev(int(found[6]), int(found[7]))
    if (kind == stat.S_IFDIR) != stat.S_ISDIR(real.mode):
        raise OSError(errno.EINVAL, f"type {value!r} of an object that is none in a layer")
    return Stored(int(found[1]), int(found[2]), kind | int(found[3], 8) & 0o7777, rdev, suffix)


def _device_part(found: re.Match[bytes]) -> int:
    """The larger part of the device number; 0 where there is none."""
    return max(int(found[6] or 0), int(found[7] or 0))
