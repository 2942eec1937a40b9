"""The driver that a name means."""

from __future__ import annotations

from collections.abc import Sequence

from unionfs.store.errors import NotFoundError
from unionfs.volumes.drivers import VolumeDriver
from unionfs.volumes.drivers.plugin.plugins import Plugins


class Drivers:
    """Our own drivers, and ``plugins``, foreign ones (None: none)."""

    def __init__(self, ours: Sequence[VolumeDriver], plugins: Plugins | None = None) -> None:
        self._ours = {driver.name: driver for driver in ours}
        self._known = dict(self._ours)
        self.plugins = plugins

    def impatient(self) -> Drivers:
        """The same, but a plugin that does not answer at once is not waited for."""
        return Drivers(list(self._ours.values()), self.plugins and self.plugins.impatient())

    def named(self, name: str) -> VolumeDriver:
        """The driver of that name, for a new volume.

        Raises:
            NotFoundError: there is none.
            StoreError: the file that says where the plugin of that name listens is wrong.
        """
        driver = self._ours.get(name) or (self.plugins.find(name) if self.plugins else None)
        if driver is None:
            ours = ", ".join(sorted(self._ours))
            raise NotFoundError(
                name, "no such volume driver", f"use {ours}, or install a plugin (/run/docker/plugins/{name}.sock)"
            )
        return self._known.setdefault(name, driver)

    def recorded(self, name: str) -> VolumeDriver:
        """The driver of that name, for a volume that has it.  A plugin may be away: then what is asked of it fails.

        Raises:
            NotFoundError: there is none of ours, and there are no plugins.
        """
        if name not in self._known and self.plugins is not None:
            self._known[name] = self.plugins.named(name)
        return self._known.get(name) or self.named(name)
