"""What is in the real directories of the layers, and what is left of it when they are laid upon each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from unionfs.overlay import kinds
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.layer import RealDir
from unionfs.overlay.private_xattrs import HAS_XATTR_WHITEOUTS, HIDES_ALL, PrivateXattrs

DOT_WHITEOUT = b".wh."
"""Names that begin so are whiteouts in the AUFS (and fuse-overlayfs) format: ``.wh.NAME`` hides NAME below."""
DOT_OPAQUE = b".wh..wh..opq"
"""A file of this name makes its directory opaque in the same format."""
_DOT_RESERVED = b".wh..wh."


class RealName(NamedTuple):
    """A name in one real directory: its type and the inode number there (0 if it is not known yet)."""

    kind: int
    ino: int


WHITEOUT = RealName(kinds.WHT, 0)


class LowerName(NamedTuple):
    """A name that the lower layers show in a directory.

    ``places`` are positions in the directory's ``lowers``, top first: for a directory all that it merges, otherwise one.
    """

    kind: int
    ino: int
    places: tuple[int, ...]


def read_names(real: RealDir, pool: FdPool, xattrs: PrivateXattrs) -> dict[bytes, RealName]:
    """All names of one real directory, with its whiteouts (type `kinds.WHT`), the ``.wh.`` ones as they are."""
    fd = real.open(pool)
    real.impure = xattrs.is_impure(fd)
    real.has_xattr_whiteouts = xattrs.opaque(fd) == HAS_XATTR_WHITEOUTS
    whiteout_xattrs = xattrs if real.has_xattr_whiteouts else None
    names: dict[bytes, RealName] = {}
    # By the path in /proc and not by the descriptor, because only then scandir gives bytes.
    with os.scandir(b"/proc/self/fd/%d" % fd) as entries:
        for entry in entries:
            names[entry.name] = RealName(_kind(entry, fd, whiteout_xattrs), entry.inode())
    return names


def _kind(entry: os.DirEntry[bytes], dir_fd: int, whiteout_xattrs: PrivateXattrs | None) -> int:
    # is_dir() and the like answer from d_type, without a system call.
    if entry.is_dir(follow_symlinks=False):
        return kinds.DIR
    if entry.is_symlink():
        return kinds.LNK
    if not entry.is_file(follow_symlinks=False):
        return kind_of(os.stat(entry.name, dir_fd=dir_fd, follow_symlinks=False))
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
        for name, (kind, ino) in names.items():
            if name in finished or name.startswith(DOT_WHITEOUT):
                continue
            above = merged.get(name)
            if kind == kinds.WHT:
                finished.add(name)
            elif above is None:
                merged[name] = LowerName(kind, ino, (place,))
                if kind != kinds.DIR:
                    finished.add(name)
            elif kind == kinds.DIR:
                merged[name] = above._replace(places=(*above.places, place))
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
    fd = real.open(pool)
    if xattrs.opaque(fd) == HIDES_ALL:
        return True
    try:
        os.stat(DOT_OPAQUE, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
