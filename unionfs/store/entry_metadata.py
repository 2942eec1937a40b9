"""What an entry of a tar says of an object besides its content, and putting that on an unpacked object."""

from __future__ import annotations

import base64
import errno
import functools
import os
import tarfile
import urllib.parse
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from unionfs.mounter.request import may_write_trusted_xattrs
from unionfs.store.overlay_format import stored_name

_XATTR = ("SCHILY.xattr.", "LIBARCHIVE.xattr.")
"""Prefixes of PAX keywords: star's, which docker and GNU tar write too, and libarchive's (values in base64)."""
_SECOND = 10**9
_LATEST = (1 << 63) // _SECOND  # seconds; nanoseconds are 64 bits in the kernel
_LARGEST_ID = 0xFFFFFFFE
_OF_ROOT, _OF_ADMINS = "security.", "trusted."


class EntryMetadata(NamedTuple):
    """Owner, mode (permission bits and set-id), time of modification in nanoseconds, attributes under their names in a layer."""

    uid: int
    gid: int
    mode: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]


def metadata_of(member: tarfile.TarInfo) -> EntryMetadata:
    """What ``member`` says.

    Raises:
        ValueError: an owner or a time is none.
    """
    if not (0 <= member.uid <= _LARGEST_ID and 0 <= member.gid <= _LARGEST_ID):
        raise ValueError(f"owner {member.uid}:{member.gid}")
    return EntryMetadata(member.uid, member.gid, member.mode & 0o7777, _mtime_ns(member), tuple(_xattrs(member.pax_headers)))


def _mtime_ns(member: tarfile.TarInfo) -> int:
    # tarfile makes a float of it, which has too few digits for nanoseconds.
    text = member.pax_headers.get("mtime")
    try:
        seconds = Decimal(text if text is not None else int(member.mtime))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f"time {text!r}") from error
    # Compared before it becomes an int: 1E+999999999 would be one of a thousand million digits.
    if seconds.is_nan() or not -_LATEST < seconds < _LATEST:
        raise ValueError(f"time {text!r}")
    return int(seconds * _SECOND)


def _xattrs(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    found: dict[str, bytes] = {}
    for keyword, value in headers.items():
        # tarfile decodes what is no UTF-8 with surrogates, which this undoes.
        data = value.encode("utf-8", "surrogateescape")
        if keyword.startswith(_XATTR[0]):
            found[keyword.removeprefix(_XATTR[0])] = data
        elif keyword.startswith(_XATTR[1]):
            name = urllib.parse.unquote(keyword.removeprefix(_XATTR[1]))
            found.setdefault(name, base64.b64decode(data + b"=" * (-len(data) % 4), validate=True))
    return [(stored_name(name), data) for name, data in sorted(found.items())]


def apply(
    metadata: EntryMetadata, parent: int, last: bytes, *, is_symlink: bool = False, skip: Callable[[str], None] | None = None
) -> None:
    """Put it on the object ``last`` in the open directory ``parent``.

    ``skip`` is told of what this process may not do and leaves out: ``owner``, or the name of an attribute.

    Raises:
        OSError: as chown(2), chmod(2), setxattr(2), utimensat(2).
    """
    tell = skip or _ignore
    # In this order: chown(2) drops set-id bits and security.capability, and everything changes times.
    if not _chowned(metadata, parent, last):
        tell("owner")
    if not is_symlink:
        os.chmod(last, metadata.mode, dir_fd=parent)
    path = b"/proc/self/fd/%d/%s" % (parent, last)
    for name, value in metadata.xattrs:
        if _may_set(name):
            os.setxattr(path, name, value, follow_symlinks=False)
        else:
            tell(name)
    os.utime(last, ns=(metadata.mtime_ns, metadata.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _chowned(metadata: EntryMetadata, parent: int, last: bytes) -> bool:
    """Give it its owner; whether it has that one now."""
    if os.geteuid() != 0:
        return (metadata.uid, metadata.gid) == (os.geteuid(), os.getegid())
    try:
        os.chown(last, metadata.uid, metadata.gid, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        # An id that has no place in our user namespace (user_namespaces(7)).
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _may_set(name: str) -> bool:
    # fs/xattr.c, xattr_permission, and security/commoncap.c: trusted. is for admins of the machine, security. for root of a
    # user namespace too.
    if name.startswith(_OF_ADMINS):
        return _is_admin()
    return os.geteuid() == 0 or not name.startswith(_OF_ROOT)


@functools.cache
def _is_admin() -> bool:
    return may_write_trusted_xattrs()


def _ignore(_what: str) -> None:
    pass
