"""Origins: which lower object an upper one was copied up from, so that its inode number stays over remounts.

The format is ``struct ovl_fb`` of fs/overlayfs/overlayfs.h: a file handle (name_to_handle_at(2)) with a header of
version 0, magic 0xfb, length of the whole, flags (byte order), handle type, and the UUID of the filesystem.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import NamedTuple

from unionfs.linux.handles import AT_EMPTY_PATH, name_to_handle_at, open_by_handle_at
from unionfs.linux.uuid import NO_UUID, filesystem_uuid
from unionfs.overlay.layer import Layer

_HEADER = struct.Struct("<BBBBB16s")
_VERSION = 0
_MAGIC = 0xFB
_FLAG_BIG_ENDIAN = 0x01
_FLAG_ANY_ENDIAN = 0x02
_FLAG_PATH_IS_UPPER = 0x04
_ENDIAN_FLAG = _FLAG_BIG_ENDIAN if sys.byteorder == "big" else 0
_LONGEST = 255
_GONE = (errno.ESTALE, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ELOOP)

UNKNOWN = b""
"""The value that says: copied up, but from where cannot be told."""


_OF_THE_MOMENT = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What tells nothing of the handle."""


class Found(NamedTuple):
    """The lower object an origin means."""

    device: int
    ino: int
    nlink: int


class Origins:
    """Writes and reads origins of one stack."""

    def __init__(self, lowers: list[Layer], upper: Layer | None = None) -> None:
        self._roots = [(layer, filesystem_uuid(layer.root.fd)) for layer in lowers]
        self._uuids = {layer.device: uuid for layer, (_, uuid) in zip(lowers, self._roots, strict=True)}
        if upper is not None and upper.device not in self._uuids:
            self._uuids[upper.device] = filesystem_uuid(upper.root.fd)

    def of(self, dir_fd: int, name: bytes, device: int, of_upper: bool = False) -> bytes:
        """The origin value for the lower object ``name`` in ``dir_fd`` (empty name: that itself) on ``device``.

        ``of_upper``: it is in the upper layer, and the value one of ``upper`` (in the index).
        """
        try:
            kind, fid = name_to_handle_at(dir_fd, name, 0 if name else AT_EMPTY_PATH)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EOVERFLOW):
                return UNKNOWN
            raise
        length = _HEADER.size + len(fid)
        if not 0 <= kind <= 0xFF or length > _LONGEST:
            return UNKNOWN
        flags = _ENDIAN_FLAG | (_FLAG_PATH_IS_UPPER if of_upper else 0)
        return _HEADER.pack(_VERSION, _MAGIC, length, flags, kind, self._uuids.get(device, NO_UUID)) + fid

    def find(self, value: bytes) -> Found | None:
        """The lower object that an origin value means; None where it cannot be told: another filesystem or byte order, an object
        that is gone, or no right to open by handle.

        Raises:
            OSError: EIO, EMFILE, ENFILE, ENOMEM: it might be told at another time.  To say "none" then would take names from the
                files of an index.
        """
        decoded = decode(value)
        if decoded is None:
            return None
        kind, uuid, fid = decoded
        for layer, root_uuid in self._roots:
            if uuid not in (root_uuid, NO_UUID):
                continue
            try:
                if layer.remote is not None:
                    return layer.remote.ask((), _stat_handle, kind, fid)
                return _stat_handle(layer.root.fd, kind, fid)
            except OSError as error:
                if error.errno in _OF_THE_MOMENT:
                    raise
        return None


def decode(value: bytes, of_upper: bool = False) -> tuple[int, bytes, bytes] | None:
    """Handle type, UUID and handle of an origin value, or with ``of_upper`` of a value of ``upper`` (in the index); None where
    it has none that is of use here."""
    if malformation(value) is not None or not value:
        return None
    _, _, _, flags, kind, uuid = _HEADER.unpack_from(value)
    if bool(flags & _FLAG_PATH_IS_UPPER) != of_upper:
        return None
    if not flags & _FLAG_ANY_ENDIAN and flags & _FLAG_BIG_ENDIAN != _ENDIAN_FLAG:
        return None
    return kind, uuid, value[_HEADER.size :]


def malformation(value: bytes) -> str | None:
    """What is wrong with a value, in words; None for a sound one, which may be `UNKNOWN` or of another byte order."""
    if value == UNKNOWN:
        return None
    if len(value) <= _HEADER.size:
        return f"{len(value)} bytes, too few for a file handle"
    version, magic, length, *_ = _HEADER.unpack_from(value)
    if magic != _MAGIC:
        return f"does not begin as file handles do (magic {magic:#04x})"
    if version != _VERSION:
        return f"a file handle of the unknown version {version}"
    return f"{len(value)} bytes, but says {length}" if length != len(value) else None


def _stat_handle(root_fd: int, kind: int, fid: bytes) -> Found:
    fd = open_by_handle_at(root_fd, kind, fid, os.O_PATH | os.O_CLOEXEC)
    try:
        st = os.fstat(fd)
    finally:
        os.close(fd)
    return Found(st.st_dev, st.st_ino, st.st_nlink)
