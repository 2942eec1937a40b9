"""The calls of the protocol: the plugin is activated first, and calls are repeated where that can do no harm.

Repeated is what has not been sent, and what changes nothing however often it is done, after 1, 2, 4 and 8 seconds as in docker.
(That repeats everything, so a Create whose answer is lost may be done twice there.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from unionfs.volumes.drivers.plugin.discovery import Plugin
from unionfs.volumes.drivers.plugin.errors import (
    NoVolumePluginError,
    PluginRefusedError,
    PluginSilentError,
    PluginUnreachableError,
)
from unionfs.volumes.drivers.plugin.protocol import LOCAL, VOLUME_DRIVER, PluginVolume, Reader, encode
from unionfs.volumes.drivers.plugin.timing import PATIENT, Clock, SystemClock, Timing
from unionfs.volumes.drivers.plugin.transport import Answer, Request, exchange

_log = logging.getLogger("unionfs.volumes")

_ACTIVATE = "Plugin.Activate"
_REPEATABLE = frozenset({_ACTIVATE, "VolumeDriver.Get", "VolumeDriver.List", "VolumeDriver.Path", "VolumeDriver.Capabilities"})
_LONG = frozenset({"VolumeDriver.Create", "VolumeDriver.Mount"})

_T = TypeVar("_T")

Locate = Callable[[], Plugin | None]
"""Finds out where the plugin listens; None: nowhere.  Asked before every attempt: a plugin that is started again may listen
elsewhere."""


class PluginClient:
    """The plugin ``name``.  Its methods raise PluginError; ``timing`` of each says how long it waits."""

    def __init__(self, name: str, locate: Locate, clock: Clock | None = None) -> None:
        self.name = name
        self._locate = locate
        self._clock = clock or SystemClock()
        self._is_active = False

    def create(self, volume: str, options: Mapping[str, str], timing: Timing = PATIENT) -> None:
        """Let the plugin make a volume."""
        self._volume_call("Create", {"Name": volume, "Opts": dict(options)}, Reader.nothing, timing)

    def remove(self, volume: str, timing: Timing = PATIENT) -> None:
        """Let the plugin remove a volume with its data."""
        self._volume_call("Remove", {"Name": volume}, Reader.nothing, timing)

    def mount(self, volume: str, user_id: str, timing: Timing = PATIENT) -> str:
        """Let the plugin mount a volume for a user; where it is, an absolute path, "" where it does not say."""
        return self._volume_call("Mount", {"Name": volume, "ID": user_id}, Reader.mountpoint, timing)

    def unmount(self, volume: str, user_id: str, timing: Timing = PATIENT) -> None:
        """Tell the plugin that a user needs a volume no longer."""
        self._volume_call("Unmount", {"Name": volume, "ID": user_id}, Reader.nothing, timing)

    def path(self, volume: str, timing: Timing = PATIENT) -> str:
        """Where a volume is mounted; "": nowhere."""
        return self._volume_call("Path", {"Name": volume}, Reader.mountpoint, timing)

    def get(self, volume: str, timing: Timing = PATIENT) -> PluginVolume | None:
        """What the plugin tells of a volume; None: it has none of that name, or refuses to tell."""

        def read(reader: Reader, answer: Answer) -> PluginVolume | None:
            return reader.volume(answer, volume)

        try:
            return self._volume_call("Get", {"Name": volume}, read, timing)
        except PluginRefusedError as error:
            # The protocol has no other word for "there is none" than an error of the plugin's own wording.
            _log.debug("%s", error)
            return None

    def volumes(self, timing: Timing = PATIENT) -> list[PluginVolume]:
        """All that the plugin has."""
        return self._volume_call("List", {}, Reader.volumes, timing)

    def scope(self, timing: Timing = PATIENT) -> str:
        """``local`` or ``global``; local where the plugin does not know the call."""
        try:
            return self._volume_call("Capabilities", {}, Reader.scope, timing)
        except PluginRefusedError as error:
            _log.debug("%s", error)
            return LOCAL

    # -- one call ---------------------------------------------------------------------------------------------------------

    def _volume_call(
        self, call: str, arguments: Mapping[str, object], read: Callable[[Reader, Answer], _T], timing: Timing
    ) -> _T:
        self._activate(timing)
        return self._call(f"{VOLUME_DRIVER}.{call}", arguments, read, timing)

    def _activate(self, timing: Timing) -> None:
        if self._is_active:
            return
        subsystems = self._call(_ACTIVATE, None, Reader.subsystems, timing)
        if VOLUME_DRIVER not in subsystems:
            shown = ", ".join(subsystems) or "nothing"
            raise NoVolumePluginError(self.name, f"it is for {shown}, not a {VOLUME_DRIVER}", "name a plugin for volumes")
        self._is_active = True

    def _call(
        self, call: str, arguments: Mapping[str, object] | None, read: Callable[[Reader, Answer], _T], timing: Timing
    ) -> _T:
        answering = timing.answering_long if call in _LONG else timing.answering
        request = Request(call, encode(arguments), timing.connecting, answering)
        return read(Reader(self.name, call), self._repeated(request, timing))

    def _repeated(self, request: Request, timing: Timing) -> Answer:
        started = self._clock.now()
        failures = 0
        while True:
            try:
                return self._once(request)
            except (PluginUnreachableError, PluginSilentError) as error:
                failures += 1
                pause = timing.pause(failures, self._clock.now() - started)
                if pause is None or not _may_be_repeated(request, error):
                    raise
                _log.warning("%s; tried again in %g s", error, pause)
                self._clock.sleep(pause)

    def _once(self, request: Request) -> Answer:
        plugin = self._locate()
        if plugin is None:
            raise PluginUnreachableError(
                self.name, "there is no plugin of that name", "start it; see docker's directories of plugins"
            )
        return exchange(plugin, request, self._clock)


def _may_be_repeated(request: Request, error: PluginUnreachableError | PluginSilentError) -> bool:
    if isinstance(error, PluginUnreachableError):
        return error.may_pass
    return request.call in _REPEATABLE
