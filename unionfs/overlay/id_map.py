"""Ids of owners: what those of the layers are shown as, and what those that users give are stored as.

Meanings are those of the options ``uidmapping``, ``gidmapping`` and ``squash_to_*`` of fuse-overlayfs (main.c, find_mapping).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

ACL_PREFIX = b"system.posix_acl_"

# struct posix_acl_xattr_header and posix_acl_xattr_entry: include/uapi/linux/posix_acl_xattr.h.
_ACL_HEADER = 4
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP = 0x02, 0x08


class IdRange(NamedTuple):
    """``length`` ids from ``stored`` on in the layers are those from ``shown`` on in the union."""

    stored: int
    shown: int
    length: int


class IdMap:
    """Translates uids, or gids."""

    def __init__(self, ranges: tuple[IdRange, ...] = (), squash: int | None = None, overflow: int = 65534) -> None:
        """
        Args:
            ranges: none: ids stay as they are.
            squash: what all are shown as, whatever they are; None: what they are.
            overflow: what stands for an id that is in no range, in both directions.
        """
        self.ranges = ranges
        self.squash = squash
        self._overflow = overflow

    def shown(self, stored: int) -> int:
        """What the owner ``stored`` of an object of the layers is shown as."""
        return self.mapped(stored) if self.squash is None else self.squash

    def mapped(self, stored: int) -> int:
        """The same without regard to ``squash``."""
        for found in self.ranges:
            if 0 <= stored - found.stored < found.length:
                return found.shown + stored - found.stored
        return self._overflow if self.ranges else stored

    def unmapped(self, found: int) -> int:
        """What is stored where an idmapped mount of a layer shows ``found``: it may have mapped that to what we would."""
        for each in self.ranges:
            if 0 <= found - each.shown < each.length:
                return each.stored + found - each.shown
        return found

    def stored(self, shown: int) -> int:
        """What an id that a user gives is stored as."""
        for found in self.ranges:
            if 0 <= shown - found.shown < found.length:
                return found.stored + shown - found.shown
        return self._overflow if self.ranges else shown


class IdMaps(NamedTuple):
    """What one union does with ids."""

    uids: IdMap
    gids: IdMap

    @property
    def squashes(self) -> bool:
        """Whether an owner may be shown that the object has not, so that it matters little whether it can be given that."""
        return self.uids.squash is not None or self.gids.squash is not None

    def shown_acl(self, value: bytes) -> bytes:
        """An access control list of the layers with the ids that users see.  They are not squashed: that would give one user the
        rights of all the others."""
        return _translated(value, self.uids.mapped, self.gids.mapped)

    def unmapped_acl(self, value: bytes) -> bytes:
        """One of a layer on an idmapped mount, as that has it stored."""
        return _translated(value, self.uids.unmapped, self.gids.unmapped)

    def stored_acl(self, value: bytes) -> bytes:
        """One that a user set, as it is stored."""
        return _translated(value, self.uids.stored, self.gids.stored)


def _translated(acl: bytes, uid: Callable[[int], int], gid: Callable[[int], int]) -> bytes:
    if (len(acl) - _ACL_HEADER) % _ACL_ENTRY.size:
        return acl  # malformed: for the layer's filesystem to refuse
    translate = {_ACL_USER: uid, _ACL_GROUP: gid}
    entries = (
        _ACL_ENTRY.pack(tag, permissions, translate[tag](owner) if tag in translate else owner)
        for tag, permissions, owner in _ACL_ENTRY.iter_unpack(acl[_ACL_HEADER:])
    )
    return acl[:_ACL_HEADER] + b"".join(entries)
