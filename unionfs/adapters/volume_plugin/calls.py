"""The calls of docker's volume plugin protocol (https://docs.docker.com/engine/extend/plugins_volume/), on our volumes.

Volumes of the plugin and of our own commands are the same.  Those that foreign plugins have are left to these: an engine can ask
them by itself.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from unionfs.adapters.volume_plugin.peers import USER, check_sees, is_over
from unionfs.mounter.errors import MounterError
from unionfs.store.errors import NotFoundError
from unionfs.store.store import Store
from unionfs.volumes import Peer, Volume, VolumeManager
from unionfs.volumes.drivers.local import LocalDriver
from unionfs.volumes.drivers.overlay import OverlayDriver
from unionfs.volumes.drivers.selection import Drivers
from unionfs.volumes.manager import DEFAULT_DRIVER
from unionfs.volumes.names import check_name

_log = logging.getLogger("unionfs.adapters")

DRIVER_OPTION = "driver"
"""Which of our drivers a new volume gets; all other options are that driver's."""

_LONGEST_ID = 256

Answer = dict[str, object]


class MalformedCallError(Exception):
    """A call that is none of the protocol: a field is missing, or of a wrong type.  ``str()`` says which."""


class UnknownCallError(Exception):
    """There is no call of that name."""


def our_volumes(store: Store) -> VolumeManager:
    """The volumes of ``store`` that are ours: without foreign plugins, of which this very one is one."""
    ours: list[LocalDriver | OverlayDriver] = [LocalDriver(), OverlayDriver(store)]
    return VolumeManager(store.root, store.database, Drivers(ours))


class Calls:
    """The calls, as ``peer`` makes them (None: a process that we cannot see)."""

    def __init__(self, volumes: VolumeManager, peer: Peer | None) -> None:
        self._volumes = volumes
        self._peer = peer
        self._calls: dict[str, Callable[[Mapping[str, object]], Answer]] = {
            "Plugin.Activate": self._activate,
            "VolumeDriver.Capabilities": self._capabilities,
            "VolumeDriver.Create": self._create,
            "VolumeDriver.Get": self._get,
            "VolumeDriver.List": self._list,
            "VolumeDriver.Mount": self._mount,
            "VolumeDriver.Path": self._path,
            "VolumeDriver.Remove": self._remove,
            "VolumeDriver.Unmount": self._unmount,
        }

    def answer(self, call: str, body: Mapping[str, object]) -> Answer:
        """Carry out ``call`` (``VolumeDriver.Get``); what to answer, ready for JSON.

        Raises:
            UnknownCallError, MalformedCallError: as they say.
            MounterError: it was refused, or it failed.
        """
        carry_out = self._calls.get(call)
        if carry_out is None:
            raise UnknownCallError(call)
        return carry_out(body)

    # -- the plugin itself ------------------------------------------------------------------------------------------------

    def _activate(self, _: Mapping[str, object]) -> Answer:
        return {"Implements": ["VolumeDriver"]}

    def _capabilities(self, _: Mapping[str, object]) -> Answer:
        return {"Capabilities": {"Scope": "local"}}

    # -- volumes ----------------------------------------------------------------------------------------------------------

    def _create(self, body: Mapping[str, object]) -> Answer:
        name, options = _name(body), _options(body)
        # docker may ask again for a volume that it has asked for; without options that is so whatever volume it is.
        if options or not self._is_known(name):
            driver = options.pop(DRIVER_OPTION, DEFAULT_DRIVER)
            self._volumes.create(name, driver, options)
        return {"Err": ""}

    def _is_known(self, name: str) -> bool:
        try:
            self._volumes.get(name)
        except NotFoundError:
            return False
        return True

    def _get(self, body: Mapping[str, object]) -> Answer:
        volume = self._volumes.get(_name(body))
        described = {
            **self._described(volume),
            "CreatedAt": datetime.datetime.fromtimestamp(int(volume.created), datetime.UTC).isoformat(),
            "Status": {"driver": volume.driver, **self._volumes.status(volume)},
        }
        return {"Volume": described, "Err": ""}

    def _list(self, _: Mapping[str, object]) -> Answer:
        found = []
        for volume in self._volumes.all():
            try:
                found.append(self._described(volume))
            except MounterError as error:
                # One that is out of order, or a foreign plugin's, is no reason to hide the others.
                _log.info("volume %s is left out: %s", volume.name, error)
        return {"Volumes": found, "Err": ""}

    def _described(self, volume: Volume) -> Answer:
        return {"Name": volume.name, "Mountpoint": self._mountpoint(volume)}

    def _mountpoint(self, volume: Volume) -> str:
        found = self._volumes.mountpoint(volume)
        return "" if found is None else str(found)

    def _path(self, body: Mapping[str, object]) -> Answer:
        return {"Mountpoint": self._mountpoint(self._volumes.get(_name(body))), "Err": ""}

    def _remove(self, body: Mapping[str, object]) -> Answer:
        name = _name(body)
        self._release_lost(self._volumes.get(name))
        self._volumes.remove(name)
        return {"Err": ""}

    def _release_lost(self, volume: Volume) -> None:
        for use in self._volumes.mounts(volume.name):
            if is_over(use, self._peer, self._volumes.mountpoint(volume)):
                _log.info("volume %s: %s has never unmounted it, and is gone", volume.name, use.user)
                self._volumes.release_one(volume.name, use.user)

    # -- using ------------------------------------------------------------------------------------------------------------

    def _mount(self, body: Mapping[str, object]) -> Answer:
        name, user = _name(body), _user(body)
        data = self._volumes.mount(name, user, self._peer)
        try:
            check_sees(self._peer, Path(data))
        except BaseException:
            self._volumes.unmount(name, user)
            raise
        return {"Mountpoint": str(data), "Err": ""}

    def _unmount(self, body: Mapping[str, object]) -> Answer:
        self._volumes.unmount(_name(body), _user(body))
        return {"Err": ""}


def _name(body: Mapping[str, object]) -> str:
    return check_name(_text(body, "Name"))


def _user(body: Mapping[str, object]) -> str:
    identifier = _text(body, "ID")
    if not identifier or len(identifier) > _LONGEST_ID or not identifier.isprintable():
        raise MalformedCallError(f"ID must have 1 to {_LONGEST_ID} printable characters")
    return USER + identifier


def _text(body: Mapping[str, object], field: str) -> str:
    found = body.get(field)
    if not isinstance(found, str):
        raise MalformedCallError(f"{field} must be a string")
    return _storable(field, found)


def _options(body: Mapping[str, object]) -> dict[str, str]:
    found = body.get("Opts")
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise MalformedCallError("Opts must be an object of strings")
    return _without_repeated({_storable("Opts", key): _storable("Opts", value) for key, value in found.items()})


def _without_repeated(options: dict[str, str]) -> dict[str, str]:
    """podman (pkg/domain/infra/abi/parse) says some words of ``o`` again, as options of their own: of ``o=size=1m,uid=1`` comes
    ``SIZE=1m`` and ``UID=1`` besides."""
    words = {word.partition("=")[0].upper() for word in options.get("o", "").split(",")}
    return {key: value for key, value in options.items() if key not in words or not key.isupper()}


def _storable(field: str, text: str) -> str:
    """JSON can write what is no text of the system: NUL, and halves of characters."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise MalformedCallError(f"{field} holds characters that are none")
    return text
