"""A whole tree as a value, so that two can be compared: the same view through two mounts, or a layer before and after.

assert not differences(Snapshot.of(one), Snapshot.of(other))
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """What there is to know of one object.  ``None`` where it has no meaning for its kind, or was not asked for."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]
    size: int | None = None
    device: int | None = None
    target: bytes | None = None
    sha256: str | None = None
    nlink: int | None = None
    names: tuple[bytes, ...] | None = None
    """The names in the tree of a file with several, sorted: equal in two trees if the same names are links of one file."""
    ctime_ns: int | None = None
    ino: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """Records by path relative to the top, the top itself being ``.``."""

    records: dict[bytes, Record] = field(default_factory=dict)

    @classmethod
    def of(cls, top: Path, *, exact: bool = False) -> Snapshot:
        """Read everything under ``top``, without following symbolic links.

        Times of access are left out: reading changes them.  Two different trees can agree at best without ``exact``; with
        it inode numbers and ctimes count too, so that one tree at two times is equal only if nobody touched it."""
        paths = dict(_walk(os.fsencode(top)))
        names: dict[tuple[int, int], list[bytes]] = {}
        for relative, (_, status) in paths.items():
            names.setdefault((status.st_dev, status.st_ino), []).append(relative)
        records = {}
        for relative, (path, status) in paths.items():
            same = tuple(sorted(names[status.st_dev, status.st_ino]))
            records[relative] = _record(path, status, same if len(same) > 1 else None, exact)
        return cls(records)


def differences(one: Snapshot, other: Snapshot) -> list[str]:
    """One line for each difference of the two trees; empty if they are the same."""
    lines = []
    for path in sorted(one.records.keys() | other.records.keys()):
        left, right = one.records.get(path), other.records.get(path)
        if left is None or right is None:
            lines.append(f"{path!r}: only in the {'first' if left else 'second'}")
            continue
        for each in fields(Record):
            before, after = getattr(left, each.name), getattr(right, each.name)
            if before != after:
                lines.append(f"{path!r}: {each.name} {before!r} != {after!r}")
    return lines


def _walk(top: bytes) -> Iterator[tuple[bytes, tuple[bytes, os.stat_result]]]:
    yield b".", (top, os.lstat(top))
    pending = [b""]
    while pending:
        directory = pending.pop()
        for name in sorted(os.listdir(os.path.join(top, directory))):
            relative = os.path.join(directory, name)
            path = os.path.join(top, relative)
            status = os.lstat(path)
            yield relative, (path, status)
            if stat.S_ISDIR(status.st_mode):
                pending.append(relative)


def _record(path: bytes, status: os.stat_result, names: tuple[bytes, ...] | None, exact: bool) -> Record:
    regular, directory = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
    return Record(
        kind=stat.filemode(status.st_mode)[0],
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        xattrs=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(_xattr_names(path))),
        # Sizes and link counts of directories are the filesystem's own business.
        size=None if directory else status.st_size,
        device=status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else None,
        target=os.readlink(path) if stat.S_ISLNK(status.st_mode) else None,
        sha256=_digest(path) if regular else None,
        nlink=None if directory else status.st_nlink,
        names=None if directory else names,
        ctime_ns=status.st_ctime_ns if exact else None,
        ino=status.st_ino if exact else None,
    )


def _xattr_names(path: bytes) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
