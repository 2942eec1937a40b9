"""A foreign plugin as a `VolumeDriver`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from unionfs.volumes.drivers import Bases
from unionfs.volumes.drivers.plugin.client import PluginClient
from unionfs.volumes.drivers.plugin.errors import (
    NoVolumePluginError,
    PluginAnswerError,
    PluginError,
    PluginRefusedError,
    PluginSilentError,
    PluginUnreachableError,
)
from unionfs.volumes.drivers.plugin.protocol import LOCAL, PluginVolume
from unionfs.volumes.drivers.plugin.timing import PATIENT, PROBING, Timing
from unionfs.volumes.volume import Volume

_log = logging.getLogger("unionfs.volumes")


class PluginDriver:
    """See the module.  The plugin is spoken to when there is something to say, not before: a volume can be listed while its
    plugin is away.  ``timing`` is for what has to be done, ``probing`` for what is only looked at."""

    wants_each_mount = True
    is_ours = False

    def __init__(self, client: PluginClient, timing: Timing = PATIENT, probing: Timing = PROBING) -> None:
        self._client = client
        self._timing = timing
        self._probing = probing
        self._scope: str | None = None

    @property
    def name(self) -> str:
        """As `VolumeDriver.name`."""
        return self._client.name

    @property
    def scope(self) -> str:
        """As `VolumeDriver.scope`; ``local`` where the plugin does not say, as docker takes it."""
        if self._scope is None:
            try:
                self._scope = self._client.scope(self._probing)
            except PluginError as error:
                _log.warning("%s; its scope is taken as %s", error, LOCAL)
                return LOCAL
        return self._scope

    def check(self, options: Mapping[str, str]) -> None:
        """As `VolumeDriver.check`; only the plugin knows them, and refuses in `create`."""

    def bases(self, options: Mapping[str, str]) -> Bases:
        """As `VolumeDriver.bases`."""
        del options
        return Bases()

    # -- what there is ----------------------------------------------------------------------------------------------------

    def volume(self, name: str) -> PluginVolume | None:
        """The plugin's volume of that name; None: it has none."""
        return self._client.get(name, self._probing)

    def volumes(self) -> list[PluginVolume]:
        """All volumes that the plugin has."""
        return self._client.volumes(self._probing)

    def path(self, volume: Volume, directory: Path) -> Path | None:
        """As `VolumeDriver.path`; None, with a warning, where the plugin does not say."""
        del directory
        try:
            mountpoint = self._client.path(volume.name, self._probing)
        except PluginRefusedError as error:
            _log.debug("%s", error)
            return None
        except PluginError as error:
            _log.warning("%s", error)
            return None
        return Path(mountpoint) if mountpoint else None

    def status(self, volume: Volume, directory: Path) -> Mapping[str, object]:
        """As `VolumeDriver.status`: what the plugin says, or ``{"error": WHY}``."""
        del directory
        try:
            found = self._client.get(volume.name, self._probing)
        except PluginError as error:
            return {"error": str(error)}
        return {"error": "the plugin does not know this volume"} if found is None else found.status

    # -- what is done -----------------------------------------------------------------------------------------------------

    def create(self, volume: Volume, directory: Path) -> None:
        """As `VolumeDriver.create`; a volume that the plugin has already is taken as it is, as docker does."""
        del directory
        if self._client.get(volume.name, self._timing) is not None:
            _log.info("volume %s: the plugin %s has it already", volume.name, self.name)
            return
        try:
            self._client.create(volume.name, volume.options, self._timing)
        except (PluginSilentError, PluginAnswerError) as error:
            # Not removed: since the Get somebody else may have made and filled it.
            raise PluginError(
                self.name,
                f"{error.problem}; it may have made the volume {volume.name} all the same",
                "create it again to take it",
            ) from error

    def remove(self, volume: Volume, directory: Path) -> None:
        """As `VolumeDriver.remove`."""
        del directory
        try:
            self._client.remove(volume.name, self._timing)
        except PluginError as error:
            remedy = f"{error.remedy}; if nothing is left there, forget the volume with: unionfs volume rm --force {volume.name}"
            raise PluginError(self.name, error.problem, remedy) from error

    def mount(self, volume: Volume, directory: Path, user: str) -> Path:
        """As `VolumeDriver.mount`."""
        del directory
        try:
            mountpoint = self._client.mount(volume.name, _id_of(user), self._timing)
            return self._checked(mountpoint)
        except (PluginRefusedError, PluginUnreachableError, NoVolumePluginError):
            raise  # by its own word, or because it never heard of it, the plugin has nothing mounted
        except BaseException:
            self._undo_mount(volume.name, user)
            raise

    def _checked(self, mountpoint: str) -> Path:
        if not os.path.isdir(mountpoint):
            problem = f"Mountpoint is {mountpoint!r}, and no directory is there"
            raise PluginAnswerError(
                self.name, "VolumeDriver.Mount", problem, "the path of a directory that is seen in our mount namespace"
            )
        return Path(mountpoint)

    def _undo_mount(self, name: str, user: str) -> None:
        """The plugin may have mounted it for a user whom nobody will ever unmount it for."""
        try:
            self._client.unmount(name, _id_of(user), self._probing)
        except PluginError as error:
            _log.warning("volume %s: perhaps still mounted there: %s", name, error)

    def unmount(self, volume: Volume, directory: Path, user: str) -> None:
        """As `VolumeDriver.unmount`."""
        del directory
        self._client.unmount(volume.name, _id_of(user), self._timing)


def _id_of(user: str) -> str:
    """What the plugin shall call a user: the ID alone, 64 hexadecimal digits of a container, as docker sends it."""
    return user.partition(":")[2] or user
