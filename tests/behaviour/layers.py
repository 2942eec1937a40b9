"""Layers as data: a tree is a dict from a path to what stands there, and `build` makes it on disk.

    {"etc/motd": b"hello", "etc/old": WHITEOUT, "var": Dir(mode=0o1777), "bin/sh": Symlink("dash")}

``bytes`` stand for a plain file of that content.  Parents that the tree does not name are made as ``Dir()``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.mounts import OVERLAY_XATTRS, USERXATTR

OLD_NS = 1_000_000_000_123_456_789
"""The mtime of everything that `build` makes, unless told otherwise: long ago, and with nanoseconds worth keeping."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """What every kind of object has; times in nanoseconds, xattr names as os.setxattr takes them."""

    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = OLD_NS
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class File(Node):
    """A regular file; ``extents`` (offset to content) and ``size`` make one with holes."""

    data: bytes = b""
    extents: Mapping[int, bytes] = field(default_factory=dict)
    size: int = 0


@dataclass(frozen=True)
class Dir(Node):
    mode: int = field(default=0o755, kw_only=True)


@dataclass(frozen=True)
class Symlink(Node):
    target: str


@dataclass(frozen=True)
class Special(Node):
    """A fifo, socket or device: ``kind`` is a ``stat.S_IF*`` number."""

    kind: int
    device: int = 0


@dataclass(frozen=True)
class Link:
    """One more name of ``target``, a path from the top of the same tree."""

    target: str


FIFO = Special(stat.S_IFIFO)
SOCKET = Special(stat.S_IFSOCK)
WHITEOUT = Special(stat.S_IFCHR, os.makedev(0, 0), mode=0)
OPAQUE = Dir(xattrs={OVERLAY_XATTRS + "opaque": b"y"})

Tree = Mapping[str | bytes, Node | Link | bytes]


def build(root: Path, tree: Tree) -> None:
    """Make ``tree`` inside ``root``, which is made if missing.

    Owners, modes and xattrs come after the data (a write drops set-id bits and capabilities), times last and deepest
    first (making a name changes its directory's time)."""
    nodes: dict[bytes, Node] = {b".": Dir()}
    links: dict[bytes, bytes] = {}
    for name, value in tree.items():
        path = os.fsencode(name)
        if isinstance(value, Link):
            links[path] = os.fsencode(value.target)
        else:
            nodes[path] = File(value) if isinstance(value, bytes) else value
    for path in [*nodes, *links]:
        for parent in PurePosixPath(os.fsdecode(path)).parents:
            nodes.setdefault(os.fsencode(parent), Dir())
    top = os.fsencode(root)
    order = sorted(nodes, key=lambda path: len(PurePosixPath(os.fsdecode(path)).parts))
    for path in order:
        _make(os.path.join(top, path), nodes[path])
    for path, target in links.items():
        os.link(os.path.join(top, target), os.path.join(top, path))
    for path in order:
        _describe(os.path.join(top, path), nodes[path])
    for path in reversed(order):
        times = (nodes[path].mtime_ns, nodes[path].mtime_ns)
        os.utime(os.path.join(top, path), ns=times, follow_symlinks=False)


def _make(path: bytes, node: Node) -> None:
    match node:
        case Dir():
            os.makedirs(path, exist_ok=True)
        case Symlink(target):
            os.symlink(target, path)
        case Special(kind, device):
            make_special(path, kind | 0o600, device)
        case File(data, extents, size):
            with open(path, "xb") as file:
                file.write(data)
                for offset, extent in extents.items():
                    file.seek(offset)
                    file.write(extent)
                file.truncate(max(size, file.tell()))


def make_special(path: bytes | Path, mode: int, device: int) -> None:
    """mknod(2); in a user namespace, where devices but whiteouts cannot be made, a fifo stands in for one."""
    is_device = stat.S_IFMT(mode) in (stat.S_IFCHR, stat.S_IFBLK) and device != WHITEOUT.device
    os.mknod(path, stat.S_IFIFO | stat.S_IMODE(mode) if is_device and USERXATTR else mode, device)


def _describe(path: bytes, node: Node) -> None:
    if os.geteuid() == 0:  # only root may give things away
        os.chown(path, node.uid, node.gid, follow_symlinks=False)
    if not isinstance(node, Symlink):
        os.chmod(path, node.mode)
    for name, value in node.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)
