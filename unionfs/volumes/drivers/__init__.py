"""Drivers: where the data of volumes is.

A driver knows neither containers nor the database; the manager calls it with the lock of the volume held, one call at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from unionfs.store.digest import Digest
from unionfs.store.errors import StoreError
from unionfs.volumes.volume import Volume

DATA = "_data"
"""The directory of a volume that holds its data, or where it is mounted (docker's name)."""


class AwayError(StoreError):
    """Whoever has the data does not answer just now: what was to be undone is still to be undone, later."""


class Bases(NamedTuple):
    """Volumes, by name, and layers, by diff ID, the bottom first."""

    volumes: tuple[str, ...] = ()
    layers: tuple[Digest, ...] = ()


class VolumeDriver(Protocol):
    """One kind of storage.

    ``directory`` is the volume's own, ``volumes/NAME``: it has `DATA`, and what else the driver keeps in it.  ``user`` names who
    uses the volume.  All methods may raise StoreError, and OSError of the system.
    """

    @property
    def name(self) -> str:
        """What ``--driver`` calls it."""

    @property
    def scope(self) -> str:
        """``local``: the data is on this machine; ``global``: other machines see the same volume (docker's plugin protocol)."""

    @property
    def wants_each_mount(self) -> bool:
        """Whether `mount` and `unmount` are called for every user; else for the first and after the last one only."""

    @property
    def is_ours(self) -> bool:
        """Whether the data is made by nobody but users of the volume, so that an empty one may be filled from an image."""

    def check(self, options: Mapping[str, str]) -> None:
        """Look at the options of a volume that is to be made.

        Raises:
            StoreError: they mean nothing, or contradict each other (exit status 2).
        """

    def bases(self, options: Mapping[str, str]) -> Bases:
        """What a volume with these options stands on: it cannot be removed as long as the volume is there.

        Raises:
            NotFoundError: it is not there.
        """

    def create(self, volume: Volume, directory: Path) -> None:
        """Make what the volume needs, in ``directory``, which is not in its place yet and has an empty `DATA`."""

    def remove(self, volume: Volume, directory: Path) -> None:
        """Remove what is outside of ``directory``, of a volume that nobody uses; may be called again."""

    def mount(self, volume: Volume, directory: Path, user: str) -> Path:
        """Make the data reachable; the absolute path where it is.  Nothing is left of it if it fails."""

    def unmount(self, volume: Volume, directory: Path, user: str) -> None:
        """Undo `mount`; nothing happens where it is undone already.

        Raises:
            AwayError: it has to be called again another time.
        """

    def path(self, volume: Volume, directory: Path) -> Path | None:
        """Where the data is just now; None: nowhere, it has to be mounted first."""

    def status(self, volume: Volume, directory: Path) -> Mapping[str, object]:
        """What ``volume inspect`` tells of it besides: JSON values."""
