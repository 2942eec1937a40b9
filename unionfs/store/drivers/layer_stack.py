"""A stack of layers, read as the one tree that a union of them shows.

Format: Documentation/filesystems/overlayfs.rst.  A name is what the topmost layer that has it says; directories merge down to the
first layer that has something else there, or marks the directory opaque.  Layers of the store have no redirects and no
metadata-only copies: they come out of archives, or of snapshots that were mounted without these (docs/snapshotter.md).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.mounter.request import may_write_trusted_xattrs

HIDES_ALL = b"y"
"""Value of the attribute ``opaque``: nothing below the directory is merged with it."""
HAS_XATTR_WHITEOUTS = b"x"
"""Value of ``opaque``: empty files with the attribute ``whiteout`` in the directory are whiteouts."""

_ABSENT = (errno.ENODATA, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class Found:
    """What a stack shows at a path: the real object, and for a directory all that merge there, top first."""

    path: bytes
    status: os.stat_result
    parts: tuple[bytes, ...] = ()

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return stat.S_ISDIR(self.status.st_mode)


def private_prefix() -> str:
    """What the names of the union's own extended attributes begin with, for this process."""
    return "user.overlay." if not may_write_trusted_xattrs() else "trusted.overlay."


class LayerStack:
    """The tree that ``layers`` show, ``layers[0]`` on top.  They must not change meanwhile."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = layers
        prefix = private_prefix()
        self._opaque = prefix + "opaque"
        self._whiteout = prefix + "whiteout"

    def walk(self) -> Iterator[tuple[bytes, Found]]:
        """All objects by their path from the root (which is ``b""``), parents before children, otherwise in no order.

        Raises:
            OSError: a layer cannot be read.
        """
        if not self._layers:
            return
        pending = [(b"", self._root())]
        while pending:
            path, found = pending.pop()
            yield path, found
            if found.is_directory:
                pending += ((os.path.join(path, name), child) for name, child in self._children(found).items())

    def _root(self) -> Found:
        parts: list[bytes] = []
        for layer in map(os.fsencode, self._layers):
            parts.append(layer)
            if self._mark(layer) == HIDES_ALL:
                break
        return Found(parts[0], os.lstat(parts[0]), tuple(parts))

    def _children(self, directory: Found) -> dict[bytes, Found]:
        shown: dict[bytes, Found] = {}
        settled: set[bytes] = set()  # names of which no layer further down can add anything
        for part in directory.parts:
            has_xattr_whiteouts = self._mark(part) == HAS_XATTR_WHITEOUTS
            for name in os.listdir(part):
                if name not in settled:
                    self._add(shown, settled, name, os.path.join(part, name), has_xattr_whiteouts)
        return shown

    def _add(self, shown: dict[bytes, Found], settled: set[bytes], name: bytes, path: bytes, has_xattr_whiteouts: bool) -> None:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            # Below a directory of that name it is hidden, and so is everything below it.
            settled.add(name)
            if name not in shown and not self._is_whiteout(path, status, has_xattr_whiteouts):
                shown[name] = Found(path, status)
            return
        if self._mark(path) == HIDES_ALL:
            settled.add(name)
        above = shown.get(name)
        shown[name] = Found(above.path, above.status, (*above.parts, path)) if above else Found(path, status, (path,))

    def _is_whiteout(self, path: bytes, status: os.stat_result, has_xattr_whiteouts: bool) -> bool:
        if stat.S_ISCHR(status.st_mode):
            return status.st_rdev == 0
        if not (has_xattr_whiteouts and stat.S_ISREG(status.st_mode) and status.st_size == 0):
            return False
        return _xattr(path, self._whiteout) is not None

    def _mark(self, directory: bytes) -> bytes | None:
        return _xattr(directory, self._opaque)


def _xattr(path: bytes, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
