"""Collecting what is left over: of killed processes, and of images, snapshots and containers that are gone.

Never while somebody adds (`unionfs.store.leases`), and nothing of a process that is alive.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.processes import is_running
from unionfs.store.descriptors import opened_alone
from unionfs.store.digest import Digest
from unionfs.store.leases import collecting
from unionfs.store.snapshotter import Snapshotter
from unionfs.store.staging import staged
from unionfs.store.store import Store

_MAKER = re.compile(r"(\d+)-(\d+)-.*")
"""Names in staging/ begin with the pid and the start time of their maker."""


@dataclass(frozen=True)
class Collected:
    """What was removed: names in staging/, layers, numbers of snapshots, configs of images.  ``freed``: bytes that the layers
    took.
    ``is_complete``: False where somebody was adding, so that layers, snapshots and configs had to be left for the next time."""

    staging: tuple[str, ...]
    layers: tuple[Digest, ...]
    snapshots: tuple[int, ...]
    configs: tuple[Digest, ...]
    freed: int
    is_complete: bool


def collect(store: Store, snapshots: Snapshotter | None = None) -> Collected:
    """Remove what nobody needs.  ``snapshots``: their leftovers too.

    Raises:
        StoreError: the database failed.
        OSError: something cannot be removed.
    """
    staging = _collect_staging(store.staging)
    with collecting(store.root) as is_alone:
        if not is_alone:
            return Collected(staging, (), (), (), 0, is_complete=False)
        # Snapshots before the layers that they are made of.
        numbers = tuple(snapshots.collect()) if snapshots else ()
        layers, freed = _collect_layers(store)
        configs = tuple(digest for digest in sorted(store.images.blobs.all()) if store.images.discard_blob(digest))
    return Collected(staging, layers, numbers, configs, freed, is_complete=True)


def _collect_layers(store: Store) -> tuple[tuple[Digest, ...], int]:
    removed = store.layers.remove_unused()
    with staged(store.root) as directory:
        # Nobody adds now, so what no row names is what a killed process left.
        for path in list(store.layers.left_over()):
            path.rename(directory / path.name)
    return tuple(layer.diff_id for layer in removed), sum(layer.unpacked_size for layer in removed)


def _collect_staging(staging: Path) -> tuple[str, ...]:
    left = [staging / name for name in sorted(os.listdir(staging)) if _has_no_maker(name)]
    mounted = [mount.mount_point for mount in read_mountinfo()]
    # What is mounted there would be emptied too.  `unionfs.containers.recovery` unmounts what is forgotten.
    free = [path for path in left if not any(place.is_relative_to(path) for place in mounted)]
    return tuple(path.name for path in free if _remove_unheld(path))


def _has_no_maker(name: str) -> bool:
    match = _MAKER.fullmatch(name)
    return match is None or not is_running(int(match[1]), int(match[2]))


def _remove_unheld(path: Path) -> bool:
    """A program that its maker started (skopeo) may hold it still.  False also where another collector was faster."""
    try:
        with opened_alone(path, os.O_RDONLY | os.O_NOFOLLOW) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
