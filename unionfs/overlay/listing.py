"""What is in the real directories of the layers, and what is left of it when they are laid upon each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, NewType

from unionfs.overlay import kinds
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.layer import RealDir, stat_in
from unionfs.overlay.private_xattrs import HAS_XATTR_WHITEOUTS, HIDES_ALL, PrivateXattrs

DOT_WHITEOUT = b".wh."
"""Names that begin so are whiteouts in the AUFS (and fuse-overlayfs) format: ``.wh.NAME`` hides NAME below."""
DOT_OPAQUE = b".wh..wh..opq"
"""A file of this name makes its directory opaque in the same format."""
_DOT_RESERVED = b".wh..wh."


RealName = NewType("RealName", int)
"""A name in one real directory: its type and the inode number there (0 if it is not known yet).

Both in one int, made by `real_name`, read by `kind_in` and `ino_in`: there is one for every name that was ever read, and a tuple
takes three times the memory.  (So would an instance of a class derived from int.)
"""

_KIND_BITS = 4
_KIND = (1 << _KIND_BITS) - 1
_PLACE_BITS = 16
_PLACE = (1 << _PLACE_BITS) - 1


def real_name(kind: int, ino: int) -> RealName:
    """``kind``: of `unionfs.overlay.kinds`; ``ino``: number in its layer, 0 if it is not known."""
    return RealName(ino << _KIND_BITS | kind)


def kind_in(name: RealName) -> int:
    """Type of a name in a real directory."""
    return name & _KIND


def ino_in(name: RealName) -> int:
    """Inode number of a name in a real directory."""
    return name >> _KIND_BITS


WHITEOUT = real_name(kinds.WHT, 0)


class MergedName(NamedTuple):
    """A name that several lower layers show: that of a directory.  See `LowerName`."""

    kind: int
    ino: int
    places: tuple[int, ...]


LowerName = int | MergedName
"""A name that the lower layers show in a directory: its type, the inode number in the topmost layer that has it, and its
*places*: positions in the directory's ``lowers``, top first; for a directory all that it merges, otherwise one.

One of a single place is an int, for the same reason as a `RealName`.  Made by `lower_name`, read by the functions that follow.
"""


def lower_name(kind: int, ino: int, places: tuple[int, ...]) -> LowerName:
    """See `LowerName`."""
    if len(places) > 1 or places[0] > _PLACE:
        return MergedName(kind, ino, places)
    return (ino << _PLACE_BITS | places[0]) << _KIND_BITS | kind


def lower_kind(name: LowerName) -> int:
    """The type."""
    return name & _KIND if isinstance(name, int) else name.kind


def lower_ino(name: LowerName) -> int:
    """The inode number."""
    return name >> _PLACE_BITS + _KIND_BITS if isinstance(name, int) else name.ino


def lower_places(name: LowerName) -> tuple[int, ...]:
    """The places."""
    return (name >> _KIND_BITS & _PLACE,) if isinstance(name, int) else name.places


def directory_places(name: LowerName | None) -> tuple[int, ...]:
    """The places of a directory; none for any other type, and where there is nothing."""
    return lower_places(name) if name is not None and lower_kind(name) == kinds.DIR else ()


def read_names(real: RealDir, pool: FdPool, xattrs: PrivateXattrs) -> dict[bytes, RealName]:
    """All names of one real directory, with its whiteouts (type `kinds.WHT`), the ``.wh.`` ones as they are."""
    read = real.ask(pool, _read, xattrs)
    real.impure, real.has_xattr_whiteouts = read.is_impure, read.has_xattr_whiteouts
    return read.names


def forget_names(reals: Iterable[RealDir], xattrs: PrivateXattrs) -> None:
    """What was read of these directories is kept elsewhere now."""
    for real in reals:
        if real.layer.remote is not None:
            real.layer.remote.drop(real.names(), _read, xattrs)


class _Read(NamedTuple):
    is_impure: bool
    has_xattr_whiteouts: bool
    names: dict[bytes, RealName]


def _read(fd: int, xattrs: PrivateXattrs) -> _Read:
    is_impure = xattrs.is_impure(fd)
    has_xattr_whiteouts = xattrs.opaque(fd) == HAS_XATTR_WHITEOUTS
    whiteout_xattrs = xattrs if has_xattr_whiteouts else None
    names: dict[bytes, RealName] = {}
    # By the path in /proc and not by the descriptor, because only then scandir gives bytes.
    with os.scandir(b"/proc/self/fd/%d" % fd) as entries:
        for entry in entries:
            names[entry.name] = real_name(_kind(entry, fd, whiteout_xattrs), entry.inode())
    return _Read(is_impure, has_xattr_whiteouts, names)


def _kind(entry: os.DirEntry[bytes], dir_fd: int, whiteout_xattrs: PrivateXattrs | None) -> int:
    # is_dir() and the like answer from d_type, without a system call.
    if entry.is_dir(follow_symlinks=False):
        return kinds.DIR
    if entry.is_symlink():
        return kinds.LNK
    if not entry.is_file(follow_symlinks=False):
        return kind_of(stat_in(dir_fd, entry.name))
    if whiteout_xattrs is None or not whiteout_xattrs.is_whiteout(dir_fd, entry.name):
        return kinds.REG
    return kinds.WHT if entry.stat(follow_symlinks=False).st_size == 0 else kinds.REG


def kind_of(st: os.stat_result) -> int:
    """The type of what stat(2) tells of."""
    kind = st.st_mode >> 12
    return kinds.WHT if kind == kinds.CHR and st.st_rdev == kinds.WHITEOUT_RDEV else kind


def merge(lowers: tuple[RealDir, ...], pool: FdPool, xattrs: PrivateXattrs) -> dict[bytes, LowerName]:
    """What the lower part of a directory shows: every name once, from the topmost layer that has it, unless it is hidden
    there."""
    merged: dict[bytes, LowerName] = {}
    # Names that no deeper layer adds anything to: hidden by a whiteout, or a file on top.
    finished: set[bytes] = set()
    for place, real in enumerate(lowers):
        names = read_names(real, pool, xattrs)
        hidden = set(dot_whiteouts(names))
        for name, found in names.items():
            if name in finished or name.startswith(DOT_WHITEOUT):
                continue
            kind = kind_in(found)
            above = merged.get(name)
            if kind == kinds.WHT:
                finished.add(name)
            elif above is None:
                merged[name] = lower_name(kind, ino_in(found), (place,))
                if kind != kinds.DIR:
                    finished.add(name)
            elif kind == kinds.DIR:
                merged[name] = lower_name(kind, lower_ino(above), (*lower_places(above), place))
            else:
                finished.add(name)
        finished |= hidden
    return merged


def dot_whiteouts(names: dict[bytes, RealName]) -> Iterator[bytes]:
    """What the ``.wh.`` names among ``names`` hide in the layers below."""
    return (name[len(DOT_WHITEOUT) :] for name in names if name.startswith(DOT_WHITEOUT) and not name.startswith(_DOT_RESERVED))


def take_dot_whiteouts(names: dict[bytes, RealName], lower_names: dict[bytes, LowerName]) -> None:
    """Apply the ``.wh.`` names among the ``names`` of an upper directory to what the lowers show, and take them out."""
    for hidden in dot_whiteouts(names):
        lower_names.pop(hidden, None)
    for name in [name for name in names if name.startswith(DOT_WHITEOUT)]:
        del names[name]


def hides_all_below(real: RealDir, pool: FdPool, xattrs: PrivateXattrs) -> bool:
    """Whether a directory is opaque: nothing below it is merged with it."""
    return real.ask(pool, _hides_all, xattrs)


def _hides_all(fd: int, xattrs: PrivateXattrs) -> bool:
    if xattrs.opaque(fd) == HIDES_ALL:
        return True
    try:
        stat_in(fd, DOT_OPAQUE)
    except FileNotFoundError:
        return False
    return True
