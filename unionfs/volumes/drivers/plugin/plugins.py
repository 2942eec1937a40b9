"""All foreign plugins, as `Drivers` asks for them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator

from unionfs.store.errors import StoreError
from unionfs.volumes.drivers.plugin.client import PluginClient
from unionfs.volumes.drivers.plugin.discovery import PluginDirectories, find_plugin, plugin_directories, plugin_names
from unionfs.volumes.drivers.plugin.driver import PluginDriver
from unionfs.volumes.drivers.plugin.errors import NoVolumePluginError
from unionfs.volumes.drivers.plugin.protocol import PluginVolume
from unionfs.volumes.drivers.plugin.timing import PATIENT, PROBING, Clock, Timing

_log = logging.getLogger("unionfs.volumes")


class Plugins:
    """The plugins in ``directories`` (None: docker's, or what UNIONFS_PLUGIN_DIRS says).

    ``timing``: how long they are waited for where something has to be done, ``probing``: where they are only looked at;
    ``clock``: by which (None: the system's).
    """

    def __init__(
        self,
        directories: PluginDirectories | None = None,
        timing: Timing = PATIENT,
        probing: Timing = PROBING,
        clock: Clock | None = None,
    ) -> None:
        self._directories = directories or plugin_directories()
        self._timing = timing
        self._probing = probing
        self._clock = clock

    def impatient(self) -> Plugins:
        """The same, of which all is asked once only."""
        return Plugins(self._directories, self._probing, self._probing, self._clock)

    def find(self, name: str) -> PluginDriver | None:
        """The driver of the plugin of that name; None: there is no such plugin.

        Raises:
            StoreError: the name cannot be one, or the file that says where the plugin listens is wrong.
        """
        return None if find_plugin(name, self._directories) is None else self.named(name)

    def named(self, name: str) -> PluginDriver:
        """The driver of the plugin of that name, which may be there or not: whatever is asked of it tells."""
        client = PluginClient(name, functools.partial(find_plugin, name, self._directories), self._clock)
        return PluginDriver(client, self._timing, self._probing)

    def volumes(self) -> Iterator[tuple[str, PluginVolume]]:
        """The volumes of all plugins, with the names of these; a plugin that does not answer is named in a warning."""
        yield from self._each(PluginDriver.volumes)

    def holding(self, volume: str) -> tuple[str, PluginVolume] | None:
        """The first plugin that has a volume of that name, and what it tells of it; one that does not answer is named in a
        warning."""

        def ask(driver: PluginDriver) -> list[PluginVolume]:
            found = driver.volume(volume)
            return [] if found is None else [found]

        return next(self._each(ask), None)

    def _each(self, ask: Callable[[PluginDriver], list[PluginVolume]]) -> Iterator[tuple[str, PluginVolume]]:
        for name in self._names():
            try:
                found = ask(self.named(name))
            except NoVolumePluginError as error:
                _log.debug("%s", error)
            except StoreError as error:
                _log.warning("%s; its volumes are left out", error)
            else:
                yield from ((name, volume) for volume in found)

    def _names(self) -> list[str]:
        try:
            return plugin_names(self._directories)
        except StoreError as error:
            _log.warning("%s; volumes of plugins are left out", error)
            return []
