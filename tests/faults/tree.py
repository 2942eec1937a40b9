"""The layers that the faults are tried on, and all that a union of them shows."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from tests.overlay.client import ROOT, Client, build
from unionfs.filesystem import ROOT_ID
from unionfs.overlay import Options, Stack, Union, kinds

OLD = 10**18
"""Nanoseconds: the mtime of all that is in a lower layer.  Whatever is written by a test has a later one."""
_NOW = -1


class Shown(NamedTuple):
    """What is seen of an object, but the times and link counts of directories.  ``mtime_ns`` is -1 for the time of the test: that
    differs from run to run."""

    mode: int
    owner: tuple[int, int]
    size: int
    nlink: int
    mtime_ns: int
    rdev: int
    contents: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


State = dict[str, Shown]
Inos = dict[str, int]


def make_lower(directory: Path, linked: bool = False) -> Path:
    """A bit of everything; ``linked``: ``d/f`` has two more names."""
    build(directory, {"d/f": b"the file", "d/h": b"another", "d/sub/g": b"deep", "e/only": b"only", "e/empty": None})
    os.setxattr(directory / "d/f", "user.kept", b"kept")
    os.symlink("d/f", directory / "link")
    os.mkfifo(directory / "fifo", 0o640)
    if linked:
        for name in ("f", "d/sub/f"):
            os.link(directory / "d/f", directory / name)
    for path in (*sorted(directory.rglob("*"), reverse=True), directory):
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)
    return directory


def make_stack(top: Path, linked: bool = False) -> Stack:
    """That under an upper that holds nothing."""
    return Stack((make_lower(top / "lower", linked),), build(top / "upper", {}), build(top / "work", {}))


def shown_by(client: Client) -> tuple[State, Inos]:
    """All that a union shows, by path."""
    state: State = {}
    inos: Inos = {}
    _walk(client, ROOT_ID, "", state, inos)
    return state, inos


def shown_by_new(stack: Stack, options: Options) -> tuple[State, Inos]:
    """The same by a union that is opened for reading only, so that the one in use, or what a crash left, stays as it is."""
    union = Union(Stack(stack.lowers, stack.upper, stack.work, read_only=True), options)
    try:
        return shown_by(Client(union))
    finally:
        union.close()


def _walk(client: Client, node: int, above: str, state: State, inos: Inos) -> None:
    for row in list(client.union.readdirplus(node, 0)):
        if row.entry is None:
            continue
        path = f"{above}/{os.fsdecode(row.name)}".lstrip("/")
        attr = row.entry.attr
        inos[path] = attr.ino
        is_directory = row.kind == kinds.DIR
        names = client.call(client.union.listxattr, row.entry.node, ROOT)
        state[path] = Shown(
            attr.mode,
            (attr.uid, attr.gid),
            0 if is_directory else attr.size,
            0 if is_directory else attr.nlink,
            0 if is_directory else fixed_mtime(attr.mtime * 10**9 + attr.mtimensec),
            attr.rdev,
            _contents(client, row.entry.node, attr.mode),
            tuple((name, client.call(client.union.getxattr, row.entry.node, name)) for name in sorted(names)),
        )
        if is_directory:
            _walk(client, row.entry.node, path, state, inos)


def fixed_mtime(mtime_ns: int) -> int:
    """A time to compare: -1 where it is that of the test."""
    return mtime_ns if mtime_ns <= 2 * OLD and mtime_ns % OLD == 0 else _NOW


def _contents(client: Client, node: int, mode: int) -> bytes:
    if stat.S_ISREG(mode):
        return bytes(client.call(client.union.read, node, 0, 1 << 20))
    return client.union.readlink(node) if stat.S_ISLNK(mode) else b""
