"""What keeps the trees of snapshots: one file a driver, all behind the same `Driver`.

``overlay_like``    what `union` and `kernel_overlay` share: a writable directory over the layers.
``union``           our own union (the default).
``kernel_overlay``  the kernel's OverlayFS.
``plain_copy``      whole trees, copied.
``btrfs``           whole trees, as subvolumes that share what nobody changed.
``selection``       which one is used.

``layer_stack``     a stack of layers, read as one tree.
``tree_copy``       copying what such a tree holds.
``difference``      what a tree changed, as a layer.
``disk_usage``      how much a directory takes.
``mounting``        carrying a `Mount` out, undoing it, and finding it again.

A committed snapshot has no directory: it is a layer over its parent, whatever driver made it.  So all drivers see
the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True)
class Mount:
    """One mount, as a client would hand it to mount(8): ``type`` is ``fuse.unionfs``, ``overlay`` or ``bind``, ``target`` a
    path below the mount point (empty: the mount point itself), ``options`` words and NAME=VALUE, with commas and backslashes
    escaped."""

    type: str
    source: str
    target: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """What something takes on disk: ``size`` in bytes (allocated, not apparent), ``inodes`` counted once however many names."""

    size: int
    inodes: int


class Change(NamedTuple):
    """One path that a snapshot adds (A), modifies (M) or deletes (D): absolute in the tree.  Of a deleted directory only the
    directory itself is named."""

    kind: Literal["A", "M", "D"]
    path: str


@dataclass(frozen=True)
class Place:
    """Where an active snapshot or a view has what is its own.

    While it is being made ``directory`` is in staging: a driver must not keep its path.
    """

    directory: Path
    size_limit: int | None = None
    """Bytes that may be written to it; None: no limit."""


class Driver(Protocol):
    """One way to make trees of layers.  ``lowers[0]`` is on top; they are layers in the kernel OverlayFS's format, read only."""

    name: str
    """What ``--driver`` calls it."""

    @property
    def limits_size(self) -> bool:
        """Whether it can keep to `Place.size_limit`."""

    def check(self, root: Path) -> None:
        """Whether it can work in the store at ``root``.

        Raises:
            StoreError: it cannot, with the remedy.
        """

    def create(self, place: Place, lowers: Sequence[Path], writable: bool) -> None:
        """Fill ``place.directory``, which is empty.

        Raises:
            StoreError, OSError: it failed; the caller removes the directory.
        """

    def mounts(self, place: Place, lowers: Sequence[Path], writable: bool) -> list[Mount]:
        """What to mount in order to see it, first to last."""

    def commit(self, place: Place, lowers: Sequence[Path], into: Path) -> None:
        """Write what was changed into the directory ``into``, which is empty and on the store's filesystem, as a layer.

        What is in the place stays as it is: a commit that is killed has lost nothing.

        Raises:
            StoreError, OSError: it failed.
        """

    def remove(self, directory: Path) -> None:
        """Remove a place's directory; what is not there any more, from a removal that was killed, is passed over."""

    def usage(self, place: Place) -> Usage:
        """What the place takes itself, without the layers."""

    def changes_dir(self, place: Place) -> Path | None:
        """The directory that holds just the changes, as an OverlayFS upper; None where there is none."""

    def changes(self, place: Place, lowers: Sequence[Path]) -> list[Change] | None:
        """What was changed, sorted by path; None where `changes_dir` tells."""
