"""Whole trees, copied: works on every filesystem and without any mount of its own, slowly, and takes the space each time.

A place holds ``tree``, what the layers show.  Blocks are shared where the filesystem can (reflinks: Btrfs, XFS).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from unionfs.store.drivers import Change, Mount, Place, Usage
from unionfs.store.drivers.difference import changed_paths, write_difference
from unionfs.store.drivers.disk_usage import disk_usage
from unionfs.store.drivers.layer_stack import Found, LayerStack
from unionfs.store.drivers.mounting import BIND
from unionfs.store.drivers.tree_copy import TreeCopier, copy_times, layer_to_tree

TREE = "tree"
MODE = 0o755


class PlainCopyDriver:
    """See the module."""

    name = "copy"
    limits_size = False

    def check(self, root: Path) -> None:
        """As `Driver.check`: nothing is needed."""

    def create(self, place: Place, lowers: Sequence[Path], writable: bool) -> None:
        """As `Driver.create`.  A view has a copy as well: who mounts it must not see layers change, or be able to change one."""
        del writable
        tree = place.directory / TREE
        tree.mkdir(MODE)
        tree.chmod(MODE)  # whatever the umask
        copy_stack(lowers, tree)

    def mounts(self, place: Place, lowers: Sequence[Path], writable: bool) -> list[Mount]:
        """As `Driver.mounts`: a bind mount."""
        del lowers
        return [Mount(BIND, str(place.directory / TREE), "", ("bind", "rw" if writable else "ro"))]

    def commit(self, place: Place, lowers: Sequence[Path], into: Path) -> None:
        """As `Driver.commit`: both trees are compared."""
        write_difference(place.directory / TREE, lowers, into)

    def remove(self, directory: Path) -> None:
        """As `Driver.remove`."""
        shutil.rmtree(directory)

    def usage(self, place: Place) -> Usage:
        """As `Driver.usage`: all of the tree; blocks that it shares with others count as its own."""
        return disk_usage(place.directory / TREE)

    def changes_dir(self, place: Place) -> Path | None:
        """As `Driver.changes_dir`: there is none."""
        del place
        return None

    def changes(self, place: Place, lowers: Sequence[Path]) -> list[Change]:
        """As `Driver.changes`: both trees are compared."""
        return changed_paths(place.directory / TREE, lowers)


def copy_stack(lowers: Sequence[Path], tree: Path) -> None:
    """Copy what ``lowers`` (top first) show into the empty directory ``tree``.

    Raises:
        OSError: as the system calls.
    """
    copier = TreeCopier(layer_to_tree)
    root = os.fsencode(tree)
    directories: list[tuple[Found, bytes]] = []
    for path, found in LayerStack(lowers).walk():
        target = os.path.join(root, path) if path else root
        if path:
            copier.copy(found.path, found.status, target)
        else:
            copier.copy_metadata(found.path, found.status, target)
        if found.is_directory:
            directories.append((found, target))
    # Deepest last in the walk: what is made in a directory changes its times.
    for found, target in reversed(directories):
        copy_times(found.status, target)
