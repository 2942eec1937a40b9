"""The volumes of a store: made, found, mounted for whoever uses them, removed when nobody does.

The manager knows users, not containers: a user is a word, ``container:ID`` or ``plugin:ID``.  A container besides *names* volumes
as long as it is there, running or not; who names a volume keeps it, and who has it mounted does too.

What is written first when a volume is mounted is the row, what goes last when it is unmounted is the mount: a process that is
killed in between leaves a row whose user is gone, or a mount that no row is of, and `VolumeManager.recover` tells both.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.mounter.errors import MounterError, from_os_error
from unionfs.store.database import Database
from unionfs.store.errors import ExistsError, InUseError, StoreError
from unionfs.store.leases import adding
from unionfs.volumes import rows
from unionfs.volumes.drivers import AwayError, VolumeDriver
from unionfs.volumes.drivers.selection import Drivers
from unionfs.volumes.filters import Filters
from unionfs.volumes.names import anonymous_name, check_name, is_name
from unionfs.volumes.places import Places, empty
from unionfs.volumes.stale import release_stale
from unionfs.volumes.volume import Filling, Peer, Volume, VolumeMount

_log = logging.getLogger("unionfs.volumes")

DEFAULT_DRIVER = "local"


@dataclass(frozen=True)
class Pruned:
    """The volumes that were removed, and the bytes that their data took."""

    names: tuple[str, ...]
    freed: int


class VolumeManager:
    """The volumes of one store.  Each thread needs one of its own, as of `Database`.

    All methods raise StoreError where the database or the disk fails, besides what they name.
    """

    def __init__(self, root: Path, database: Database, drivers: Drivers) -> None:
        self.root = root
        self._database = database
        self._drivers = drivers
        self._places = Places(root)

    def impatient(self) -> VolumeManager:
        """The same volumes, for what is tried again another time anyway: no plugin that does not answer is waited for."""
        return VolumeManager(self.root, self._database, self._drivers.impatient())

    # -- asking ---------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Volume:
        """The volume of that name.

        Raises:
            NotFoundError: there is none.
        """
        return rows.find(self._database, name)

    def all(self, filters: Filters | None = None) -> list[Volume]:
        """All of them, or those that ``filters`` mean, by name."""
        volumes = rows.all_volumes(self._database)
        if filters is None:
            return volumes
        return [volume for volume in volumes if filters.match(volume, functools.partial(self.users, volume.name))]

    def find(self, name: str) -> Volume:
        """As `get`; a volume that only a foreign plugin has is adopted.

        Raises:
            NotFoundError: nobody has one of that name.
        """
        return rows.lookup(self._database, name) or self._adopted(name) or rows.find(self._database, name)

    def discovered(self) -> list[Volume]:
        """Volumes that only foreign plugins have, by name; ``created`` is 0 where the plugin does not say.  Plugins that do not
        answer are named in a warning."""
        if self._drivers.plugins is None:
            return []
        seen = {volume.name for volume in rows.all_volumes(self._database)}
        found = []
        for driver, volume in self._drivers.plugins.volumes():
            if not is_name(volume.name):
                _log.warning(
                    "volume plugin %s: its volume %s is left out: not a name that we could use", driver, ascii(volume.name)
                )
            elif volume.name not in seen:
                seen.add(volume.name)
                found.append(_foreign(driver, volume.name, volume.created or 0.0))
        return sorted(found, key=lambda volume: volume.name)

    def listed(self, filters: Filters) -> list[Volume]:
        """Those that ``filters`` mean of all volumes and of the `discovered` ones, by name."""
        foreign = [volume for volume in self.discovered() if filters.match(volume, tuple)]
        return sorted([*self.all(filters), *foreign], key=lambda volume: volume.name)

    def users(self, name: str) -> list[str]:
        """In words, all that keep a volume from being removed."""
        return rows.users_of(self._database, name)

    def mounts(self, name: str) -> list[VolumeMount]:
        """Who has a volume mounted."""
        return rows.mounts_of(self._database, name)

    def all_mounts(self) -> Sequence[tuple[str, VolumeMount]]:
        """All that anybody has mounted, with the name of its volume."""
        return rows.mounted(self._database)

    def named_by(self, container_id: str) -> list[Volume]:
        """The volumes that a container names."""
        return rows.named_by(self._database, container_id)

    def naming(self, name: str) -> set[str]:
        """The containers that name a volume, by ID."""
        return rows.naming(self._database, name)

    def mountpoint(self, volume: Volume) -> Path | None:
        """Where its data is; None: it has to be mounted first."""
        return self._drivers.recorded(volume.driver).path(volume, self._places.path(volume.name))

    def directory(self, name: str) -> Path:
        """The directory that the store keeps for a volume."""
        return self._places.path(name)

    def driver_is_ours(self, volume: Volume) -> bool:
        """As `VolumeDriver.is_ours`."""
        return self._drivers.recorded(volume.driver).is_ours

    def status(self, volume: Volume) -> Mapping[str, object]:
        """As `VolumeDriver.status`."""
        return self._drivers.recorded(volume.driver).status(volume, self._places.path(volume.name))

    def scope(self, volume: Volume) -> str:
        """As `VolumeDriver.scope`."""
        return self._drivers.recorded(volume.driver).scope

    # -- making -----------------------------------------------------------------------------------------------------------

    def create(
        self,
        name: str | None = None,
        driver: str = DEFAULT_DRIVER,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume; without a name an anonymous one.  The same name with the same driver and options again is no error.

        Raises:
            ExistsError: there is one of that name with another driver or other options.
            NotFoundError: there is no such driver.
            StoreError: the name or an option is wrong (exit status 2).
        """
        if name is not None:
            check_name(name)
            known = rows.lookup(self._database, name)
            if known is not None:
                return _same(known, driver, options or {})
        chosen = self._drivers.named(driver)
        chosen.check(options or {})
        volume = Volume(
            name=name or anonymous_name(),
            driver=chosen.name,
            options=dict(options or {}),
            labels=dict(labels or {}),
            anonymous=name is None,
            filling=Filling.NEW,
            created=time.time(),
        )
        return self._make(volume, chosen)

    def _adopted(self, name: str) -> Volume | None:
        """A volume that a plugin has, from now on one of ours."""
        check_name(name)
        found = self._drivers.plugins.holding(name) if self._drivers.plugins is not None else None
        if found is None:
            return None
        driver, volume = found
        _log.info("volume %s: the plugin %s has it", name, driver)
        adopted = _foreign(driver, name, volume.created or time.time())
        return self._make(adopted, self._drivers.recorded(driver), is_there=True)

    def _make(self, volume: Volume, driver: VolumeDriver, *, is_there: bool = False) -> Volume:
        with _explained(volume.name), adding(self.root), self._places.made() as directory:
            bases = driver.bases(volume.options)
            if not is_there:
                driver.create(volume, directory)
            try:
                with self._database.transaction() as connection:
                    rows.insert(connection, volume)
                    rows.add_bases(connection, volume.name, bases.volumes, bases.layers)
                    self._places.install(directory, volume.name)
            except sqlite3.IntegrityError:
                return self._lost_race(volume)
        return volume

    def _lost_race(self, volume: Volume) -> Volume:
        """Another process has made it meanwhile, or has removed what it should stand on."""
        known = rows.lookup(self._database, volume.name)
        if known is None:
            raise InUseError(volume.name, "what it stands on was removed meanwhile", "see unionfs volume ls")
        return _same(known, volume.driver, volume.options)

    def ensure(
        self,
        name: str | None,
        driver: str | None = None,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """The volume of that name, as it is; unless a driver is named, also one that only a foreign plugin has.  Made, with
        ``driver`` (None: local) and so on, when it is not there.

        Raises:
            As `create`; ExistsError: it has another driver than the one named.
        """
        known = rows.lookup(self._database, name) if name is not None else None
        if known is None and name is not None and driver is None:
            known = self._adopted(name)
        if known is None:
            return self.create(name, driver or DEFAULT_DRIVER, options, labels)
        if driver is not None and driver != known.driver:
            raise _other_driver(known, driver)
        return known

    # -- using ------------------------------------------------------------------------------------------------------------

    def mount(self, name: str, user: str, peer: Peer | None = None) -> Path:
        """Make the data of a volume reachable for ``user``, once more if it was already; where it is.

        Raises:
            NotFoundError: there is no such volume.
            StoreError: it cannot be mounted.
        """
        with self._locked(name) as (volume, directory):
            driver = self._drivers.recorded(volume.driver)
            with self._database.transaction() as connection:
                rows.count_mount(connection, name, user, peer)
            try:
                path = None if driver.wants_each_mount else driver.path(volume, directory)
                path = path or driver.mount(volume, directory, user)
                if volume.filling is Filling.COPYING:
                    self._begin_anew(name, path)
                return path
            except BaseException:
                with self._database.transaction() as connection:
                    rows.uncount_mount(connection, name, user)
                raise

    def _begin_anew(self, name: str, data: Path) -> None:
        """Whoever fills a volume holds its lock, so this one was killed at that; nobody has seen what is there."""
        empty(data)
        self.set_filling(name, Filling.NEW)

    def unmount(self, name: str, user: str) -> None:
        """Undo one `mount`.  Of a user who has nothing mounted: nothing, because engines ask for that after they were killed.

        Raises:
            NotFoundError: there is no such volume.
            InUseError: it is unmounted nowhere, because somebody works in it; ``user`` has it mounted no longer all the same, and
                `recover` tries again.
            AwayError: nothing has changed; `recover` tries again once ``user`` is gone.
        """
        self._end_use(name, user, is_gone=False)

    def _end_use(self, name: str, user: str, *, is_gone: bool) -> None:
        """Undo one mount of ``user``, or all where it ``is_gone``."""
        with self._locked(name) as (volume, directory):
            driver = self._drivers.recorded(volume.driver)
            count = sum(mount.count for mount in rows.mounts_of(self._database, name) if mount.user == user)
            if not count and not is_gone:
                _log.info("volume %s: %s has it not mounted", name, user)
                return
            times = count if is_gone else 1
            if driver.wants_each_mount:
                self._end_each(driver, volume, directory, user, times)
                return
            self._uncount(name, user, times)
            if not rows.mounts_of(self._database, name):
                driver.unmount(volume, directory, user)

    def _end_each(self, driver: VolumeDriver, volume: Volume, directory: Path, user: str, times: int) -> None:
        """Unmount as often as it was mounted.  Nothing but our row tells that a plugin has a volume mounted, so here the row goes
        last, and stays where the plugin is away: `recover` tries again.  What a plugin refuses to undo it would refuse again."""
        for left in range(times, 0, -1):
            try:
                driver.unmount(volume, directory, user)
            except AwayError:
                raise
            except StoreError:
                self._uncount(volume.name, user, left)
                raise
            self._uncount(volume.name, user, 1)

    def _uncount(self, name: str, user: str, times: int) -> None:
        with self._database.transaction() as connection:
            for _ in range(times):
                rows.uncount_mount(connection, name, user)

    def release(self, user: str) -> None:
        """Undo all that ``user`` has mounted, however often: it is gone.

        Raises:
            StoreError: one could not be unmounted; the others are.
        """
        failure: MounterError | None = None
        for name in rows.mounted_by(self._database, user):
            try:
                self.release_one(name, user)
            except MounterError as error:
                failure = error
        if failure is not None:
            raise failure

    def unmount_idle(self, name: str) -> None:
        """Unmount a volume that nobody has mounted: a process was killed at that.

        Raises:
            As `unmount`.
        """
        # Looked up before the lock is taken, which somebody holds as long as a plugin does not answer.
        driver = self._drivers.recorded(self.get(name).driver)
        if driver.wants_each_mount:
            return
        with self._locked(name) as (volume, directory):
            if not rows.mounts_of(self._database, name):
                driver.unmount(volume, directory, "")

    @contextlib.contextmanager
    def filling(self, name: str) -> Iterator[Filling]:
        """Alone with a volume while it is filled: how far that is.  `set_filling` notes how far it has come."""
        with self._locked(name) as (volume, _):
            yield volume.filling

    def set_filling(self, name: str, filling: Filling) -> None:
        """Note it, on the disk."""
        with self._database.transaction() as connection:
            rows.set_filling(connection, name, filling)

    def release_one(self, name: str, user: str) -> None:
        """Undo all that ``user`` has mounted of one volume.

        Raises:
            As `unmount`.
        """
        self._end_use(name, user, is_gone=True)

    def forget_mounts(self, name: str, user: str) -> None:
        """Note that ``user`` has a volume mounted no longer, whatever a plugin thinks that is away."""
        with self._database.transaction() as connection:
            rows.forget_mounts(connection, name, user)

    # -- removing -----------------------------------------------------------------------------------------------------------

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume with its data.  ``force``: also where foreign engines that had it mounted are gone, and where the
        plugin that has the data does not remove it: then it is forgotten here.

        Raises:
            NotFoundError: there is none.
            InUseError: somebody uses it; the error says who.
        """
        volume = self.get(name)
        if not self._places.path(name).exists():
            self._forget(volume)
            return
        if force:
            release_stale(self, name)
        with self._locked(name) as (volume, directory):
            self._refuse_used(name)
            driver = self._drivers.recorded(volume.driver)
            if not driver.wants_each_mount:
                driver.unmount(volume, directory, "")
            self._refuse_mounted(name)
            self._remove_outside(driver, volume, directory, force=force)
            self._forget(volume)
            self._drop_directory(name)

    def _remove_outside(self, driver: VolumeDriver, volume: Volume, directory: Path, *, force: bool) -> None:
        try:
            driver.remove(volume, directory)
        except StoreError as error:
            if not force or driver.is_ours:
                raise
            _log.warning("%s: forgotten here only: %s", volume.name, error)

    def _forget(self, volume: Volume) -> None:
        try:
            with self._database.transaction() as connection:
                rows.delete(connection, volume.name)
        except sqlite3.IntegrityError as error:
            self._refuse_used(volume.name)
            raise InUseError(volume.name, "somebody began to use the volume", "try again") from error

    def _drop_directory(self, name: str) -> bool:
        """Remove the directory of a volume that is no more; False: there is a new volume of that name, or nothing is there.

        Only now that the row is gone for good: a directory without a row is collected, a row without its data is a loss.  Whoever
        makes a new volume of that name installs its directory in one transaction with the row, so in one with none it is the old.
        """
        with self._places.aside() as aside, self._database.transaction():
            return rows.lookup(self._database, name) is None and self._places.set_aside(name, aside)

    def _refuse_used(self, name: str) -> None:
        users = self.users(name)
        if users:
            raise InUseError(name, f"the volume is in use by {', '.join(users)}", "remove these first")

    def _refuse_mounted(self, name: str) -> None:
        """What somebody has mounted in a volume is not the volume's, and would be emptied with it."""
        mounted = self._places.mounted_in(name)
        if mounted:
            where = ", ".join(map(str, mounted))
            raise InUseError(name, f"something is mounted in the volume, on {where}", "unmount it first")

    def left_over(self) -> Sequence[str]:
        """Names of directories that no volume has."""
        return sorted(self._places.names() - {volume.name for volume in self.all()})

    def collect(self) -> Sequence[str]:
        """Remove directories that killed processes left; their names.  What is mounted in one stays with it."""
        with _explained(str(self.root)):
            left = [name for name in self.left_over() if not self._places.mounted_in(name)]
            return [name for name in left if self._drop_directory(name)]

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[tuple[Volume, Path]]:
        """The row and the directory of a volume, which stay as they are meanwhile."""
        self.get(name)
        with _explained(name), self._places.locked(name) as directory:
            # Whoever had the lock before may have removed it.
            yield self.get(name), directory


def _foreign(driver: str, name: str, created: float) -> Volume:
    return Volume(name, driver, options={}, labels={}, anonymous=False, filling=Filling.NEW, created=created)


def _same(known: Volume, driver: str, options: Mapping[str, str]) -> Volume:
    if known.driver != driver:
        raise _other_driver(known, driver)
    if known.options != dict(options):
        raise ExistsError(known.name, "there is a volume of that name with other options", "choose another name, or remove it")
    return known


def _other_driver(known: Volume, driver: str) -> StoreError:
    return ExistsError(
        known.name,
        f"there is a volume of that name with the driver {known.driver}, not {driver}",
        "choose another name, or remove it",
    )


@contextlib.contextmanager
def _explained(thing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            thing, str(from_os_error(error)), "make room, or get the right to write to the store (--root)"
        ) from error
