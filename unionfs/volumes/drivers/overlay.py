"""The driver ``overlay``: a volume that is a union of its own, read-only bases under a writable layer that only it has.

So many containers share one set of data, and each changes its own copy of it.  The bases are directories (``lower=``, top first),
the layers of an image (``image=``) or the data of another volume (``volume=``); ``size=`` limits what the volume itself may take.

In the directory of the volume: ``upper``, ``work`` and the snapshots of the upper, beside ``_data``, where it is mounted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from unionfs.linux.mountinfo import Mount as MountedHere
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.errors import OptionError
from unionfs.mounter.lookup import registered_mount
from unionfs.mounter.options import parse_size
from unionfs.mounter.registry import State
from unionfs.store.drivers import Mount
from unionfs.store.drivers.mounting import UNION, escaped, mount_all, unmount_one
from unionfs.store.drivers.tree_copy import TreeCopier, layer_to_tree
from unionfs.store.drivers.union import for_containers
from unionfs.store.errors import NotFoundError, wrong_usage
from unionfs.store.store import Store
from unionfs.volumes import rows
from unionfs.volumes.drivers import DATA, Bases
from unionfs.volumes.names import check_name
from unionfs.volumes.places import VOLUMES
from unionfs.volumes.volume import Volume

UPPER, WORK = "upper", "work"

_BASES = ("lower", "image", "volume")
_EXAMPLE = "give lower=/DIRECTORY[:/DIRECTORY…], image=NAME[:TAG] or volume=NAME"


class OverlayDriver:
    """See the module.  ``store``: where images, their layers and other volumes are."""

    name = "overlay"
    scope = "local"
    wants_each_mount = False
    is_ours = True

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- making -----------------------------------------------------------------------------------------------------------

    def check(self, options: Mapping[str, str]) -> None:
        """As `VolumeDriver.check`."""
        for option in options:
            if option not in (*_BASES, "size"):
                raise wrong_usage(option, "not an option of the driver overlay", f"give {', '.join(_BASES)}, size")
        given = [option for option in _BASES if options.get(option)]
        if len(given) != 1:
            raise wrong_usage("overlay", f"{len(given)} of {', '.join(_BASES)} are given, not one", _EXAMPLE)
        if "size" in options:
            try:
                parse_size(options["size"])
            except (OptionError, ValueError) as error:
                raise wrong_usage(
                    f"size={options['size']}", "not a size", "write a number of bytes, or one such as 10G"
                ) from error
        if "volume" in options:
            check_name(options["volume"])
        for lower in _directories(options):
            if not os.path.isabs(lower):
                raise wrong_usage(f"lower={lower}", "not an absolute path", "give the directory by its absolute path")

    def bases(self, options: Mapping[str, str]) -> Bases:
        """As `VolumeDriver.bases`."""
        for lower in _directories(options):
            if not os.path.isdir(lower):
                raise NotFoundError(lower, "the lower of a volume is no directory", "make it first")
        if "image" in options:
            return Bases(layers=self._store.images.find(options["image"]).layers)
        if "volume" in options:
            self._directory_of(options["volume"])
            return Bases(volumes=(options["volume"],))
        return Bases()

    def _directory_of(self, name: str) -> Path:
        """Where the data of a volume is that others can stand on: it must be there without being mounted."""
        base = rows.find(self._store.database, name)
        if base.driver != "local" or base.options:
            raise wrong_usage(
                name, "the data of this volume is a mount of its own", "stand on a plain local volume, or on a directory"
            )
        return self._store.root / VOLUMES / name / DATA

    def create(self, volume: Volume, directory: Path) -> None:
        """As `VolumeDriver.create`."""
        upper, work = directory / UPPER, directory / WORK
        upper.mkdir()
        work.mkdir(0o700)
        # The root of a union is the upper's: it has to look like that of the bases.
        lowers = self._lowers(volume) or [self._store.layers.path(layer) for layer in self.bases(volume.options).layers[-1:]]
        top = os.fsencode(lowers[0])
        TreeCopier(layer_to_tree).copy_metadata(top, os.lstat(top), os.fsencode(upper))

    def remove(self, volume: Volume, directory: Path) -> None:
        """As `VolumeDriver.remove`."""

    # -- mounting ---------------------------------------------------------------------------------------------------------

    def mount(self, volume: Volume, directory: Path, user: str) -> Path:
        """As `VolumeDriver.mount`; a mount whose daemon was killed is made anew."""
        del user
        data = directory / DATA
        self._unmount_all(data)
        mount_all([Mount(UNION, str(directory), "", tuple(self._options(volume, directory)))], data)
        return data

    def _options(self, volume: Volume, directory: Path) -> list[str]:
        options = [f"lowerdir+={escaped(str(lower))}" for lower in self._lowers(volume)]
        options += [f"upperdir={escaped(str(directory / UPPER))}", f"workdir={escaped(str(directory / WORK))}"]
        if "size" in volume.options:
            options.append(f"size={volume.options['size']}")
        return options + for_containers()

    def _lowers(self, volume: Volume) -> Sequence[Path]:
        if "image" in volume.options:
            return [self._store.layers.path(layer) for layer in dict.fromkeys(rows.layers_of(self._store.database, volume.name))]
        if "volume" in volume.options:
            return [self._directory_of(volume.options["volume"])]
        return [Path(lower) for lower in _directories(volume.options)]

    def unmount(self, volume: Volume, directory: Path, user: str) -> None:
        """As `VolumeDriver.unmount`."""
        del volume, user
        self._unmount_all(directory / DATA)

    @staticmethod
    def _unmount_all(data: Path) -> None:
        while unmount_one(data):
            pass

    def path(self, volume: Volume, directory: Path) -> Path | None:
        """As `VolumeDriver.path`; not where its daemon is dead."""
        del volume
        data = directory / DATA
        return data if _is_served(data) else None

    def status(self, volume: Volume, directory: Path) -> Mapping[str, object]:
        """As `VolumeDriver.status`: ``lowers``, and ``upper``, which ``unionfs snapshot`` knows too."""
        lowers: list[str] = []
        with contextlib.suppress(NotFoundError):  # a base directory is the user's own affair
            lowers = [str(lower) for lower in self._lowers(volume)]
        return {"lowers": lowers, "upper": str(directory / UPPER)}


def _directories(options: Mapping[str, str]) -> list[str]:
    return [lower for lower in options.get("lower", "").split(":") if lower]


def _is_served(data: Path) -> bool:
    covering: list[MountedHere] = [each for each in read_mountinfo() if each.mount_point == data]
    if not covering:
        return False
    found = registered_mount(covering[-1])
    return found is not None and found.state is State.MOUNTED
