"""The union under test: its layers on disk, its mount, and the view of one test on it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.mounts import OVERLAY_XATTRS, Backend

from . import deviations
from .layers import Tree, build
from .tree import Snapshot, differences

T = TypeVar("T")


@dataclass(frozen=True)
class Layers:
    """What the layers of a test hold, as its ``layers`` marker says: the lowers, top first, what stands in the upper, and the
    data-only layers (for an own mount only)."""

    lowers: Sequence[Tree]
    upper: Tree
    read_only: bool
    data: Sequence[Tree] = ()

    @classmethod
    def of_marker(
        cls, lower: Tree | Sequence[Tree] = (), upper: Tree | None = None, read_only: bool = False, data: Sequence[Tree] = ()
    ) -> Layers:
        """``lower`` is one tree or several, top first; ``read_only``: there is no upper."""
        lowers = (lower,) if isinstance(lower, dict) else tuple(lower) or ({},)
        return cls(lowers, upper or {}, read_only, data)


class Mounted:
    """The directories of one mount under ``top``, and the mount itself."""

    def __init__(
        self,
        backend: Backend,
        top: Path,
        lower_count: int,
        read_only: bool = False,
        options: Sequence[str] = (),
        data_count: int = 0,
    ) -> None:
        self.backend = backend
        self.options = options
        self.read_only = read_only
        self.lowers = [top / f"lower{n}" for n in range(lower_count)]
        self.data = [top / f"data{n}" for n in range(data_count)]
        self.upper, self.work, self.merged = top / "upper", top / "work", top / "merged"
        for directory in (*self.lowers, *self.data, self.upper, self.work, self.merged):
            directory.mkdir()

    def mount(self) -> None:
        upper, work = (None, None) if self.read_only else (self.upper, self.work)
        self.backend.mount(self.lowers, upper, work, self.merged, self.options, self.data)

    def umount(self) -> None:
        self.backend.umount(self.merged)


@dataclass
class Union:
    """What one test sees of a mount: ``merged`` is the view, and the same directory in every layer stands beside it."""

    mounted: Mounted
    merged: Path
    upper: Path
    lowers: list[Path]
    _before: list[Snapshot] = field(default_factory=list, repr=False)

    @classmethod
    def in_mount(cls, mounted: Mounted, layers: Layers, directory: str = ".") -> Union:
        """Make the content of ``layers`` in ``directory`` of a mount that is not mounted yet."""
        # The data-only layers as well: no test may change them either.
        lowers = [lower / directory for lower in (*mounted.lowers[: len(layers.lowers)], *mounted.data)]
        union = cls(mounted, mounted.merged / directory, mounted.upper / directory, lowers)
        for lower, tree in zip(lowers, (*layers.lowers, *layers.data), strict=True):
            build(lower, tree)
        if layers.upper:
            build(union.upper, layers.upper)
        union._before = [Snapshot.of(lower, exact=True) for lower in lowers]
        return union

    def changed_in_lowers(self) -> list[str]:
        """How the lowers differ from what was built: always empty, or somebody wrote to a lower layer."""
        return [
            line
            for before, lower in zip(self._before, self.lowers, strict=True)
            for line in differences(before, Snapshot.of(lower, exact=True))
        ]

    @property
    def lower(self) -> Path:
        """The top lower."""
        return self.lowers[0]

    @property
    def backend(self) -> Backend:
        return self.mounted.backend

    def deviates(self, deviation: str, *, kernel: T, ours: T) -> T:
        """What this backend does in a case where ours differs from the kernel on purpose, as docs/deviations.md declares."""
        return deviations.choose(deviation, self.backend.name, kernel, ours)

    def names(self, directory: str = ".") -> list[str]:
        """The names in a merged directory, sorted."""
        return sorted(os.listdir(self.merged / directory))

    def has_whiteout(self, name: str) -> bool:
        """Whether the upper holds a whiteout of this name, in the form that is written: a character device 0:0."""
        try:
            status = (self.upper / name).lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(0, 0)

    def is_opaque(self, name: str) -> bool:
        """Whether the upper holds an opaque directory of this name."""
        path = self.upper / name
        mark = OVERLAY_XATTRS + "opaque"
        return mark in os.listxattr(path) and os.getxattr(path, mark) == b"y"

    def is_copied_up(self, name: str) -> bool:
        """Whether the upper holds the object itself: something of this name that is no whiteout."""
        return os.path.lexists(self.upper / name) and not self.has_whiteout(name)

    def remount(self, backend: Backend | None = None) -> None:
        """Unmount, and mount the same layers with a new server; of another backend, if one is given.  For an own mount only."""
        self.mounted.umount()
        self.mounted.backend = backend or self.backend
        self.mounted.mount()
