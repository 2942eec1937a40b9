"""A directory becomes a tar; the same content gives the same bytes.

Names are sorted, owners numeric, times those of modification to the nanosecond; no times of access, no names of users.  Headers
are PAX (POSIX.1-2001) where an old header does not hold what is to be said, attributes as ``SCHILY.xattr.NAME``, what docker and
GNU tar write.  A socket cannot be in a tar and is left out, as docker does.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from unionfs.store import overlay_format
from unionfs.store.errors import StoreError

_CHUNK = 1 << 20
_BLOCK = 512
_SECOND = 10**9
_END = bytes(2 * _BLOCK)
_XATTR = "SCHILY.xattr."
_NOT_ALONE = ("redirect", "metacopy")
"""Marks of an upper that send its reader to the layers below it."""

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def pack_layer(diff: Path) -> Iterator[bytes]:
    """The tar of a layer or an upper directory in the kernel OverlayFS's format; nobody may change it meanwhile.

    Raises:
        StoreError: it depends on the layers below it (redirects, metadata-only copies), or was changed.
        OSError: it cannot be read.
    """
    return _Packing(diff, is_layer=True).run()


def pack_tree(directory: Path) -> Iterator[bytes]:
    """The tar of a root filesystem: what is in ``directory``, with no regard to whiteouts.

    Raises:
        StoreError: it was changed meanwhile.
        OSError: it cannot be read.
    """
    return _Packing(directory, is_layer=False).run()


class _Packing:
    """One directory being packed."""

    def __init__(self, directory: Path, *, is_layer: bool) -> None:
        self._directory = directory
        self._is_layer = is_layer
        self._first_names: dict[tuple[int, int], bytes] = {}

    def run(self) -> Iterator[bytes]:
        top = os.fsencode(self._directory)
        yield from self._entry(b"./", top, os.lstat(top))
        yield from self._inside(b"", top)
        yield _END

    def _inside(self, prefix: bytes, directory: bytes) -> Iterator[bytes]:
        """The entries of what is in ``directory``, whose names in the tar begin with ``prefix``."""
        if self._is_layer and overlay_format.is_opaque(directory):
            yield _marker(prefix + overlay_format.TAR_OPAQUE)
        for last in sorted(os.listdir(directory)):
            path, name = directory + b"/" + last, prefix + last
            st = os.lstat(path)
            if self._is_layer and overlay_format.is_whiteout(path, st):
                yield _marker(prefix + overlay_format.TAR_WHITEOUT + last)
            elif stat.S_ISDIR(st.st_mode):
                yield from self._entry(name + b"/", path, st)
                yield from self._inside(name + b"/", path)
            elif not stat.S_ISSOCK(st.st_mode):
                yield from self._entry(name, path, st)

    def _entry(self, name: bytes, path: bytes, st: os.stat_result) -> Iterator[bytes]:
        info = _info(name, st)
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            first = self._first_names.setdefault((st.st_dev, st.st_ino), name)
            if first != name:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, _text(first), 0
                yield _header(info)
                return
        info.pax_headers = {**info.pax_headers, **dict(self._xattrs(path))}
        if stat.S_ISLNK(st.st_mode):
            info.linkname = _text(os.readlink(path))
        yield _header(info)
        if stat.S_ISREG(st.st_mode):
            yield from _content(path, st.st_size)

    def _xattrs(self, path: bytes) -> Iterator[tuple[str, str]]:
        try:
            names = sorted(os.listxattr(path, follow_symlinks=False))
        except OSError as error:
            if error.errno in _NO_XATTRS:
                return
            raise
        for name in names:
            shown = overlay_format.shown_name(name) if self._is_layer else name
            if shown is None:
                self._check_alone(path, name)
                continue
            yield _XATTR + shown, _text(os.getxattr(path, name, follow_symlinks=False))

    def _check_alone(self, path: bytes, name: str) -> None:
        if name.removeprefix(overlay_format.private_prefix()) in _NOT_ALONE:
            raise StoreError(
                os.fsdecode(path),
                "is a part of the layers below it (a renamed directory, or a copy of metadata alone)",
                "mount with redirect_dir=off,metacopy=off what is to become a layer",
            )


_NO_XATTRS = frozenset((errno.EOPNOTSUPP,))


def _info(name: bytes, st: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(_text(name))
    info.type = _TYPES[stat.S_IFMT(st.st_mode)]
    info.mode = stat.S_IMODE(st.st_mode)
    info.uid, info.gid = st.st_uid, st.st_gid
    info.size = st.st_size if stat.S_ISREG(st.st_mode) else 0
    seconds, nanoseconds = divmod(st.st_mtime_ns, _SECOND)
    info.mtime = seconds
    if nanoseconds:
        # Written out as it is: tarfile would make a float of it.
        info.pax_headers = {"mtime": _decimal(st.st_mtime_ns)}
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        info.devmajor, info.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
    return info


def _decimal(nanoseconds: int) -> str:
    seconds, rest = divmod(abs(nanoseconds), _SECOND)
    return f"{'-' if nanoseconds < 0 else ''}{seconds}.{rest:09}"


def _marker(name: bytes) -> bytes:
    """The entry of a whiteout.  It has no owner and no time: those of the device would make equal layers differ."""
    return _header(tarfile.TarInfo(_text(name)), mode=0)


def _header(info: tarfile.TarInfo, mode: int | None = None) -> bytes:
    if mode is not None:
        info.mode = mode
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _content(path: bytes, size: int) -> Iterator[bytes]:
    missing = size
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while missing and (data := file.read(min(_CHUNK, missing))):
            missing -= len(data)
            yield data
    if missing:
        raise StoreError(os.fsdecode(path), "was changed while it was read", "let nobody change it meanwhile, and try again")
    yield bytes(-size % _BLOCK)
