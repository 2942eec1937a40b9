"""The records of containers, in the database of the store."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from unionfs.containers.mount_specs.spec import volume_names
from unionfs.containers.names import made_up_name
from unionfs.containers.options import RunOptions, dump
from unionfs.containers.status import Status, read_status
from unionfs.mounter.processes import is_running, start_time
from unionfs.store.database import Database
from unionfs.store.errors import ExistsError, NotFoundError, StoreError
from unionfs.volumes.rows import add_references

DIRECTORY = "containers"
_SELECT = "SELECT id, name, image, snapshot, options, created FROM containers"
_TRIES = 20


@dataclass(frozen=True)
class Container:
    """A container.  ``image`` is the image's ID, ``snapshot`` the key of its writable layer, ``created`` in seconds since the
    epoch.

    ``monitor`` and ``monitor_started`` tell its monitor from all other processes (`unionfs.mounter.processes`)."""

    id: str
    name: str
    image: str
    snapshot: str
    options: RunOptions
    created: float
    monitor: int
    monitor_started: int
    directory: Path

    @property
    def rootfs(self) -> Path:
        """Where its root filesystem is mounted while it runs."""
        return self.directory / "rootfs"

    @property
    def has_monitor(self) -> bool:
        """Whether its monitor lives, which sees to everything."""
        return is_running(self.monitor, self.monitor_started)

    def status(self) -> Status:
        """What it does now.

        Raises:
            CorruptError: see `read_status`.
        """
        return read_status(self.directory)


class Containers:
    """The containers of a store."""

    def __init__(self, root: Path, database: Database) -> None:
        self._root = root
        self._database = database

    def directory_of(self, container_id: str) -> Path:
        """Where its files are."""
        return self._root / DIRECTORY / container_id

    def all(self) -> list[Container]:
        """All of them, the oldest first."""
        return [self._container(row) for row in self._database.read(f"{_SELECT} ORDER BY created, id")]

    def find(self, text: str) -> Container:
        """The container of that name, ID or beginning of an ID.

        Raises:
            NotFoundError: there is none.
            StoreError: there are several.
        """
        rows = self._database.read(f"{_SELECT} WHERE name = ? OR id = ?", text, text)
        if not rows and text and all(digit in "0123456789abcdef" for digit in text):
            rows = self._database.read(f"{_SELECT} WHERE substr(id, 1, ?) = ? LIMIT 2", len(text), text)
        if not rows:
            raise NotFoundError(text, "no such container", "unionfs ps -a lists them")
        if len(rows) > 1:
            raise StoreError(text, "more than one container's ID begins so", "give more of it")
        return self._container(rows[0])

    def add(self, container_id: str, image: str, snapshot: str, options: RunOptions) -> Container:
        """Record a container whose monitor is this process.  Without a name in ``options`` it gets one.

        Raises:
            ExistsError: the name is taken.
            NotFoundError: the image has gone.
        """
        for _ in range(_TRIES):
            name = options.name or made_up_name()
            try:
                self._insert(container_id, name, image, snapshot, options)
            except sqlite3.IntegrityError as error:
                self._explain(error, name, image, is_given=options.name is not None)
            else:
                return self.find(container_id)
        raise ExistsError(options.image, "no name is left for a container", "give one (--name)")

    def _insert(self, container_id: str, name: str, image: str, snapshot: str, options: RunOptions) -> None:
        started = start_time(os.getpid())
        assert started is not None
        kept = dump({**options.to_json(), "monitor": os.getpid(), "monitor_started": started})
        with self._database.transaction() as connection:
            # With the volumes, in one: none can go before it is known that this one needs it.
            connection.execute(
                "INSERT INTO containers (id, name, image, snapshot, options, created) VALUES (?, ?, ?, ?, ?, ?)",
                (container_id, name, image, snapshot, kept, time.time()),
            )
            add_references(connection, volume_names(options.mounts), container_id)

    def _explain(self, error: sqlite3.IntegrityError, name: str, image: str, *, is_given: bool) -> None:
        with contextlib.suppress(NotFoundError):
            taken = self.find(name)
            if is_given:
                raise ExistsError(
                    name, f"the name of container {taken.id[:12]} already", "choose another, or remove that (unionfs rm)"
                )
            return
        raise NotFoundError(image, f"the image went away: {error}", "unionfs image ls lists what is there") from error

    def forget(self, container: Container) -> None:
        """Remove its record alone; nothing if there is none."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (container.id,))

    def _container(self, row: tuple[object, ...]) -> Container:
        container_id, name, image, snapshot, kept, created = row
        options = json.loads(str(kept))
        monitor, started = options.pop("monitor"), options.pop("monitor_started")
        return Container(
            id=str(container_id),
            name=str(name),
            image=str(image),
            snapshot=str(snapshot),
            options=RunOptions.from_json(options),
            created=float(str(created)),
            monitor=monitor,
            monitor_started=started,
            directory=self.directory_of(str(container_id)),
        )
