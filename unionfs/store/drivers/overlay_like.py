"""What the drivers with a writable directory over the layers share.

A place holds ``upper`` and ``work`` (a view has neither), and ``empty0`` and ``empty1``, the lowest lowers of a stack that would
otherwise be too short for an overlay.  Layers are never bind-mounted by themselves: whiteouts in a lowest layer would be seen as
devices.

Writable snapshots are mounted with ``redirect_dir=off``, ``metacopy=off`` and ``index=off``, as docker's overlay2 does: the upper
alone becomes a layer, over whatever stands below it, so nothing in it may refer to a name or an inode of the layers under it, or
stand in the work directory only.  Programs that rename a directory of a layer get EXDEV, and copy it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from unionfs.store.drivers import Change, Place, Usage
from unionfs.store.drivers.disk_usage import disk_usage
from unionfs.store.drivers.layer_stack import private_prefix
from unionfs.store.drivers.tree_copy import TreeCopier, XattrNames, copy_times, layer_to_tree, upper_to_layer
from unionfs.store.errors import StoreError

UPPER, WORK = "upper", "work"

ALONE = ("index=off", "metacopy=off", "redirect_dir=off")
"""Options without which an upper would not be a layer."""

_FEWEST_LOWERS = 2  # of an overlay without an upper (fs/overlayfs/super.c)
_MODE = 0o755


class OverlayLike:
    """The part of a `Driver` that knows nothing of how it is mounted."""

    def create(self, place: Place, lowers: Sequence[Path], writable: bool) -> None:
        """As `Driver.create`: nothing of the layers is copied."""
        for filler in _fillers(place, lowers):
            _make_root(filler, lowers)
        if writable:
            _make_root(place.directory / UPPER, lowers)
            (place.directory / WORK).mkdir(0o700)

    def commit(self, place: Place, lowers: Sequence[Path], into: Path) -> None:
        """As `Driver.commit`: a copy of the upper, sharing its blocks where the filesystem can.

        Not the upper itself: moved, it would be lost with the snapshot if the process were killed before the layer is known.
        """
        del lowers
        copier = TreeCopier(_names_in_layer(place.directory / UPPER))
        upper, target = os.fsencode(place.directory / UPPER), os.fsencode(into)
        copier.copy_metadata(upper, os.lstat(upper), target)
        directories = [(upper, target)]
        for source, copy in directories:  # grows on the way
            for entry in os.scandir(source):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISSOCK(status.st_mode):
                    continue  # a layer holds none: no tar does
                path = os.path.join(copy, entry.name)
                copier.copy(entry.path, status, path)
                if stat.S_ISDIR(status.st_mode):
                    directories.append((entry.path, path))
        for source, copy in reversed(directories):
            copy_times(os.lstat(source), copy)

    def remove(self, directory: Path) -> None:
        """As `Driver.remove`."""
        shutil.rmtree(directory)

    def usage(self, place: Place) -> Usage:
        """As `Driver.usage`: what the upper takes.  The work directory belongs to the mount."""
        upper = place.directory / UPPER
        return disk_usage(upper) if upper.exists() else Usage(0, 0)

    def changes_dir(self, place: Place) -> Path | None:
        """As `Driver.changes_dir`: the upper."""
        upper = place.directory / UPPER
        return upper if upper.exists() else None

    def changes(self, place: Place, lowers: Sequence[Path]) -> list[Change] | None:
        """As `Driver.changes`: the upper tells."""
        del place, lowers
        return None

    def directory_options(self, place: Place, lowers: Sequence[Path], writable: bool) -> list[tuple[str, str]]:
        """The directories as options of the kernel's OverlayFS and of ours, names and values."""
        options = [("lowerdir+", str(lower)) for lower in (*lowers, *_fillers(place, lowers))]
        if writable:
            options += [("upperdir", str(place.directory / UPPER)), ("workdir", str(place.directory / WORK))]
        return options


def _names_in_layer(upper: Path) -> XattrNames:
    """As `upper_to_layer`, but for marks that send their reader to the layers below: somebody has mounted it without `ALONE`."""
    marks = [private_prefix() + mark for mark in ("redirect", "metacopy")]

    def name_in_layer(name: str) -> str | None:
        if name in marks:
            raise StoreError(
                str(upper),
                f"depends on the layers below it (attribute {name})",
                "mount with redirect_dir=off,metacopy=off what is to become a layer",
            )
        return upper_to_layer(name)

    return name_in_layer


def _fillers(place: Place, lowers: Sequence[Path]) -> list[Path]:
    return [place.directory / f"empty{number}" for number in range(_FEWEST_LOWERS - len(lowers))]


def _make_root(directory: Path, lowers: Sequence[Path]) -> None:
    """The root of a union is the upper's: it has to look like that of the layers."""
    directory.mkdir(_MODE)
    directory.chmod(_MODE)  # whatever the umask
    if lowers:
        top = os.fsencode(lowers[0])
        TreeCopier(layer_to_tree).copy_metadata(top, os.lstat(top), os.fsencode(directory))
