"""Whole trees again, as Btrfs subvolumes: a snapshot of one takes no time and no space, whatever is in it.

The tree of a stack of layers is made once, of reflinks, and kept as a subvolume beside the topmost layer
(``layers/HEX/trees/NAME``, NAME standing for the stack), so that it goes when the layer does.  What `PlainCopyDriver` copies is a
snapshot of that one here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from unionfs.linux.btrfs import create_subvolume, destroy_subvolume, snapshot_subvolume
from unionfs.linux.mountinfo import mount_id, read_mountinfo
from unionfs.store.drivers import Place
from unionfs.store.drivers.plain_copy import MODE, TREE, PlainCopyDriver, copy_stack
from unionfs.store.errors import StoreError

_TREES, _NEW = "trees", "new"
_IS_THERE = (errno.EEXIST, errno.ENOTEMPTY)


class BtrfsDriver(PlainCopyDriver):
    """See the module."""

    name = "btrfs"

    def check(self, root: Path) -> None:
        """As `Driver.check`."""
        root.mkdir(parents=True, exist_ok=True)
        number = mount_id(root)
        fstype = next(mount.fstype for mount in read_mountinfo() if mount.id == number)
        if fstype != "btrfs":
            raise StoreError(str(root), f"on {fstype}, not Btrfs", "use a store on Btrfs (--root), or --driver union")

    def create(self, place: Place, lowers: Sequence[Path], writable: bool) -> None:
        """As `Driver.create`."""
        del writable
        tree = place.directory / TREE
        if lowers:
            snapshot_subvolume(self._tree_of(lowers, place.directory / _NEW), tree)
        else:
            create_subvolume(tree)
            tree.chmod(MODE)  # whatever the umask

    def remove(self, directory: Path) -> None:
        """As `Driver.remove`."""
        for name in (TREE, _NEW):
            # Without the right to remove it at once it goes file by file; rmdir(2) then takes an empty subvolume.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                destroy_subvolume(directory / name)
        shutil.rmtree(directory)

    def _tree_of(self, lowers: Sequence[Path], new: Path) -> Path:
        """The subvolume that is kept of this stack; it is made at ``new`` and moved into its place."""
        names = b"\0".join(os.fsencode(lower.parent.name) for lower in lowers)
        kept = lowers[0].parent / _TREES / hashlib.sha256(names).hexdigest()
        if kept.exists():
            return kept
        create_subvolume(new)
        copy_stack(lowers, new)
        kept.parent.mkdir(exist_ok=True)
        try:
            new.rename(kept)
        except OSError as error:
            if error.errno not in _IS_THERE:
                raise
            destroy_subvolume(new)  # somebody else was faster
        return kept
