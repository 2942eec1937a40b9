"""POSIX ACLs as the raw value of their extended attributes (include/uapi/linux/posix_acl_xattr.h): no library stands between."""

from __future__ import annotations

import struct
from collections.abc import Iterable

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF
_VERSION = 2


def encode(entries: Iterable[tuple[int, int, int]]) -> bytes:
    """The value for rows of (tag, permission bits, id)."""
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *row) for row in entries)


def with_user(owner: int, uid: int, permission: int, group: int, mask: int, other: int) -> bytes:
    """The ACL that gives one named user permissions beside the classes of the mode."""
    return encode(
        [
            (USER_OBJ, owner, NO_ID),
            (USER, permission, uid),
            (GROUP_OBJ, group, NO_ID),
            (MASK, mask, NO_ID),
            (OTHER, other, NO_ID),
        ]
    )
