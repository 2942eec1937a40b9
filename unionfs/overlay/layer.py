"""The layers of a union and the real directories in them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unionfs.linux.mount import clone_private
from unionfs.linux.statfs import is_remote
from unionfs.overlay.fd_pool import FdPool, close
from unionfs.overlay.remote_layer import RemoteLayer
from unionfs.overlay.stat_override import StatOverride

T = TypeVar("T")

_log = logging.getLogger("unionfs.overlay")

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Stack:
    """The directories of a union: ``lowers`` top first (at least one), and, if it is to be writable, ``upper`` and ``work``;
    ``data``: data-only layers, in the order in which they are asked."""

    lowers: tuple[Path, ...]
    upper: Path | None = None
    work: Path | None = None
    data: tuple[Path, ...] = ()
    read_only: bool = False
    """Whether ``upper`` is only looked at: then ``work`` need not be there, and may have an index."""
    snapshots: int = 0
    """How many of ``lowers``, from the top on, were the upper once (`unionfs.overlay.snapshots`)."""
    former_uppers: frozenset[Path] = frozenset()
    """More of them that were: where layers were added above."""
    goes_on: bool = False
    """Whether a union in use goes on: its lowers may be others than those that its index was made over."""


_MOST_HIDDEN = 50_000
"""Directories; of those that had a copy-up in them before that many others had, the real ctime shows."""


class Layer:
    """One directory of the stack, held open."""

    __slots__ = (
        "_hidden",
        "_mount_fd",
        "device",
        "generation",
        "has_handles",
        "is_idmapped",
        "is_remote",
        "is_snapshot",
        "is_upper",
        "label",
        "override",
        "path",
        "remote",
        "root",
    )

    def __init__(self, label: str, path: Path, root_fd: int, is_upper: bool, mount_fd: int = -1) -> None:
        """``is_upper``: it is where changes go.  ``mount_fd``: what keeps the layer's private mount alive, if it has one."""
        self.label = label
        self.path = path
        self.device = os.fstat(root_fd).st_dev
        self.is_upper = is_upper
        self.root = RealDir(self, None, b"", root_fd)
        self.override: StatOverride | None = None
        """The attribute that has the owners of its objects; None: the real ones count."""
        self.is_idmapped = False
        """Whether its mount has mapped the real owners already."""
        self.generation = int(is_upper)
        """For `unionfs.filesystem.Opened`: a number that its files do not share with those that they are copied up to."""
        self.is_snapshot = False
        """Whether it was the upper: what was copied up to it goes on showing the inode numbers of its origins."""
        self.has_handles = False
        """Whether its objects were found to have file handles that can be opened."""
        self.is_remote = False
        """Whether its filesystem may wait for somebody else."""
        self.remote: RemoteLayer | None = None
        """What such a layer is asked through (see `ask_elsewhere`); None: it is asked here and now."""
        self._mount_fd = mount_fd
        # By inode number: mtime and ctime after the last change that users do not see, and the ctime that they do.
        self._hidden: dict[int, tuple[int, int, int]] = {}

    def hide_change(self, before: os.stat_result, fd: int) -> os.stat_result:
        """Something was changed in a directory (open as ``fd``) that is no change to users, as a copy-up into it: they go on
        seeing the ctime of ``before``.  Its attributes now.

        Not being told of the change is not enough: who stats, reads and stats it again (tar) would find that it changed.
        """
        after, hidden = os.fstat(fd), self._hidden
        hidden[after.st_ino] = after.st_mtime_ns, after.st_ctime_ns, self.shown_ctime_ns(before)
        if len(hidden) > _MOST_HIDDEN:
            del hidden[next(iter(hidden))]
        return after

    def shown_ctime_ns(self, st: os.stat_result) -> int:
        """The ctime that users see where ``st`` are the attributes of a directory of this layer."""
        hidden = self._hidden.get(st.st_ino)
        # The mtime as well: on kernels before 6.13 a change within the same clock tick has the same ctime, but moves the mtime.
        if hidden is not None and hidden[1] == st.st_ctime_ns and hidden[0] == st.st_mtime_ns:
            return hidden[2]
        return st.st_ctime_ns

    def freeze(self, opened: Layer) -> None:
        """The upper becomes a lower layer: the same directory, from now on by way of ``opened``, which it takes over."""
        close(self.root)
        self.root.fd, opened.root.fd = opened.root.fd, -1
        self._mount_fd, opened._mount_fd = opened._mount_fd, -1
        self.is_upper, self.is_snapshot = False, True

    def forget(self) -> None:
        """Somebody changed it: what a remote one has answered counts no more."""
        if self.remote is not None:
            self.remote.forget()

    def close(self) -> None:
        """Close the root, which no `FdPool` closes."""
        if self.remote is not None:
            self.remote.close()
        close(self.root)
        if self._mount_fd >= 0:
            os.close(self._mount_fd)
            self._mount_fd = -1


class RealDir:
    """A directory of one layer.

    It is known by its parent and name, never by a path: opening it goes down from the nearest open ancestor one name at a
    time without following symbolic links, so nothing planted in a layer leads out of it.  Lower ones never change; an
    upper one that is renamed just gets another parent and name.
    """

    __slots__ = ("fd", "has_xattr_whiteouts", "impure", "layer", "name", "parent", "recent")

    def __init__(self, layer: Layer, parent: RealDir | None, name: bytes, fd: int = -1) -> None:
        self.layer = layer
        self.parent = parent
        self.name = name
        self.fd = fd
        self.recent = True
        self.impure = False
        """Whether the directory may hold objects with an origin, metadata-only copies among them; known once its names were
        read."""
        self.has_xattr_whiteouts = False
        """Whether the directory is marked as one that may hold whiteouts in the form of attributes; known likewise."""

    def open(self, pool: FdPool) -> int:
        """The descriptor of the directory; good until the pool's next `FdPool.trim`."""
        if self.fd >= 0:
            self.recent = True
            return self.fd
        # The chain of closed ancestors, walked without recursion: directories may be nested deeper than Python's stack.
        closed: list[RealDir] = []
        real: RealDir | None = self
        while real is not None and real.fd < 0:
            closed.append(real)
            real = real.parent
        if real is None:
            raise OSError(errno.ESTALE, "a layer was closed while in use", os.fsdecode(self.name))
        fd = real.fd
        while closed:
            real = closed.pop()
            fd = real.fd = open_dir(real.name, fd)
            pool.add(real)
        return fd

    def ask(self, pool: FdPool, function: Callable[..., T], *arguments: Any) -> T:
        """What ``function``, which only looks, returns for a descriptor of the directory (an ``O_PATH`` one possibly) and
        ``arguments``.

        Raises:
            Blocking: as `RemoteLayer.ask`.
            OSError: that of ``function``, or of the way here.
        """
        remote = self.layer.remote
        if remote is None:
            return function(self.open(pool), *arguments)
        return remote.ask(self.names(), function, *arguments)

    def names(self) -> tuple[bytes, ...]:
        """The names that lead here from the root of the layer."""
        names: list[bytes] = []
        real = self
        while real.parent is not None:
            names.append(real.name)
            real = real.parent
        return tuple(reversed(names))

    def recorded(self, name: bytes) -> tuple[bytes, bytes]:
        """What the journal has of ``name`` in it: the path of the layer, and the one in there."""
        return os.fsencode(self.layer.path), b"/".join((*self.names(), name))

    def path(self) -> Path:
        """The host path, for people to read; never used to reach the directory."""
        return self.layer.path.joinpath(*map(os.fsdecode, self.names()))


def stat_in(dir_fd: int, name: bytes) -> os.stat_result:
    """stat(2) of ``name`` itself; for `RealDir.ask`, as are the next two."""
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)


def readlink_in(dir_fd: int, name: bytes) -> bytes:
    """readlink(2)."""
    return os.readlink(name, dir_fd=dir_fd)


def at(dir_fd: int, name: bytes, function: Callable[..., T], *arguments: Any) -> T:
    """What ``function`` returns for a path of ``name``, which is good for that long."""
    return function(b"/proc/self/fd/%d/%s" % (dir_fd, name), *arguments)


def open_dir(name: bytes, dir_fd: int) -> int:
    """Open directory ``name``, without right to read it if there is none (its names can be used nevertheless)."""
    try:
        return os.open(name, _OPEN_DIR, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, _OPEN_DIR | os.O_PATH, dir_fd=dir_fd)


def layer_label(role: str, index: int) -> str:
    """What people read of the layer at a position, 0 on top."""
    return f"{role}[{index}]"


def open_lower(index: int, path: Path, role: str = "lower") -> Layer:
    """Open a lower layer, or a data-only one (``role`` is what it is called).

    Through a private read-only mount, so that the kernel itself refuses every write to it and leaves its access times alone
    (OverlayFS does the same).  Where that is not allowed, as it is.
    """
    layer = _open_private(layer_label(role, index), path)
    try:
        layer.is_remote = is_remote(layer.root.fd)
    except OSError:
        layer.close()
        raise
    return layer


@contextlib.contextmanager
def waited_for(layers: Iterable[Layer]) -> Iterator[None]:
    """Within, who asks one of ``layers`` waits for the answer here, after all: see `RemoteLayer.waiting`."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            if layer.remote is not None:
                stack.enter_context(layer.remote.waiting())
        yield


def ask_elsewhere(layers: Iterable[Layer], upper: Layer | None) -> None:
    """From now on nobody waits for the remote ones among ``layers`` here: who needs to raises `Blocking`.

    But for those on the filesystem of ``upper``, which is waited for anyway.  Former uppers are among them, where link counts
    change.
    """
    for layer in layers:
        if layer.is_remote and layer.remote is None and (upper is None or layer.device != upper.device):
            layer.remote = RemoteLayer(layer.root.fd)


def _open_private(label: str, path: Path) -> Layer:
    try:
        mount_fd = clone_private(os.fsencode(path))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL):
            raise
        _log.info("%s is used without a private read-only mount (%s): %s", label, error.strerror, path)
        return _layer(label, path, os.open(path, _OPEN_DIR & ~os.O_NOFOLLOW), is_upper=False)
    try:
        return _layer(label, path, os.open(b".", _OPEN_DIR, dir_fd=mount_fd), is_upper=False, mount_fd=mount_fd)
    except OSError:
        os.close(mount_fd)
        raise


def _layer(label: str, path: Path, root_fd: int, *, is_upper: bool, mount_fd: int = -1) -> Layer:
    try:
        return Layer(label, path, root_fd, is_upper, mount_fd)
    except OSError:
        os.close(root_fd)
        raise


def open_upper(path: Path) -> Layer:
    """Open the upper layer.  Not through a mount of its own: files are renamed between it and the work directory, and rename(2)
    refuses that across mounts."""
    return _layer("upper", path, os.open(path, _OPEN_DIR & ~os.O_NOFOLLOW), is_upper=True)


def open_upper_read_only(path: Path) -> Layer:
    """Open the upper layer of a union that shall not change it: as protected as a lower, and for nobody a place to write."""
    return _open_private("upper", path)


def open_index(path: Path, is_upper: bool) -> Layer:
    """Open an index of hard links: what is in it is in the upper, or looked at only."""
    return _layer("index", path, os.open(path, _OPEN_DIR), is_upper=is_upper)
