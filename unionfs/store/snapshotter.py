"""Snapshots: stacks of layers to mount something on, with the operations and the names of containerd's snapshotters
(github.com/containerd/containerd, core/snapshots/snapshotter.go).

    prepare(key, parent) -> active --commit(name, key)--> committed
    view(key, parent)    -> view                             ^ parent of others

What a driver adds is how an active snapshot and a view are kept and mounted; a committed one is a row: a layer over its parent.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from unionfs.mounter.errors import MounterError, from_os_error
from unionfs.store import snapshot_rows
from unionfs.store.chain_id import chain_ids
from unionfs.store.database import Database
from unionfs.store.digest import Digest
from unionfs.store.drivers import Change, Driver, Mount, Place, Usage
from unionfs.store.drivers.mounting import MountPoint, mount_all, mount_points, unmount_one
from unionfs.store.drivers.selection import driver_named
from unionfs.store.errors import CorruptError, ExistsError, InUseError, StoreError
from unionfs.store.leases import adding
from unionfs.store.snapshot_places import Places
from unionfs.store.snapshot_rows import Kind, SnapshotInfo, SnapshotRow
from unionfs.store.staging import sync

__all__ = ["Change", "Kind", "Mount", "SnapshotInfo", "Snapshotter", "Usage"]

_LAYER = "layer"
_CHAIN_LABEL = "unionfs.image"
"""On committed snapshots that `Snapshotter.ensure_image` made: they go when no image needs them."""
_INIT_PREFIX = "init-"
"""How those are called, before the name of their parent, that stand on an image for all its containers."""


_PATIENCE = 2.0
"""Seconds.  Whoever makes a mount namespace, as each start of a container does, has a copy of all mounts for a moment: until it
has left the old root."""
_LOOK_AGAIN = 0.02  # seconds


class AdoptedLayer(Protocol):
    """A layer that the store has, as far as snapshots need it."""

    @property
    def diff_id(self) -> Digest:
        """What names it."""


class LayerStore(Protocol):
    """The layers of the store, as far as snapshots need them (`unionfs.store.layers.Layers`)."""

    def adopt(self, directory: Path) -> AdoptedLayer:
        """Make a layer of a directory in layer format, which is moved."""

    def path(self, diff_id: Digest) -> Path:
        """The directory of a layer."""


class Snapshotter:
    """The snapshots of one store.  Each thread needs one of its own, as of `Database`.

    All methods raise StoreError where the database fails or the filesystem refuses what has to be done, besides what they name.
    """

    def __init__(self, root: Path, database: Database, layers: LayerStore, driver: Driver) -> None:
        """``driver`` keeps new snapshots; those that are there stay with the driver that made them."""
        self._root = root
        self._database = database
        self._layers = layers
        self._driver = driver
        self._places = Places(root)

    # -- asking ---------------------------------------------------------------------------------------------------------

    def stat(self, key: str) -> SnapshotInfo:
        """What there is to know of one.

        Raises:
            NotFoundError: there is none of that name.
        """
        return snapshot_rows.find(self._database, key).info

    def walk(self) -> Iterator[SnapshotInfo]:
        """All of them, parents before children."""
        yield from (row.info for row in snapshot_rows.all_rows(self._database))

    def usage(self, key: str) -> Usage:
        """What one takes itself, without its parents: of a committed one its layer, unpacked.

        Raises:
            NotFoundError: there is none of that name.
        """
        row = snapshot_rows.find(self._database, key)
        if row.info.kind is Kind.COMMITTED:
            ((size, entries),) = self._database.read("SELECT unpacked_size, entries FROM layers WHERE diff_id = ?", row.diff_id)
            assert isinstance(size, int)
            assert isinstance(entries, int)
            return Usage(size, entries)
        with _explained(key):
            return self._driver_of(row).usage(self._place(row))

    def mounts(self, key: str) -> list[Mount]:
        """What to mount in order to see an active snapshot or a view.

        Raises:
            NotFoundError: there is none of that name.
            StoreError: it is committed.
        """
        row = _not_committed(snapshot_rows.find(self._database, key))
        return self._driver_of(row).mounts(self._place(row), self._lowers(row.info.parent), row.info.kind is Kind.ACTIVE)

    def mounted_at(self, key: str) -> list[MountPoint]:
        """Where it is mounted, in this mount namespace and in others, the latest first.

        Raises:
            NotFoundError: there is none of that name.
        """
        row = snapshot_rows.find(self._database, key)
        return [] if row.info.kind is Kind.COMMITTED else mount_points(self._places.path(row.number))

    def changes_dir(self, key: str) -> Path | None:
        """The directory that holds just the changes of an active snapshot, as an OverlayFS upper; None for a view, and where the
        driver keeps whole trees.

        Raises:
            NotFoundError: there is none of that name.
            StoreError: it is committed.
        """
        row = _not_committed(snapshot_rows.find(self._database, key))
        return self._driver_of(row).changes_dir(self._place(row))

    def changes(self, key: str) -> list[Change] | None:
        """What an active snapshot changes of its parent, where the driver keeps whole trees: both are compared.  None where it
        has a `changes_dir`.  The caller sees to it that nobody writes meanwhile.

        Raises:
            NotFoundError: there is no ``key``.
            StoreError: it is committed.
        """
        with _explained(key), self._locked(key) as row:
            return self._driver_of(row).changes(self._place(row), self._lowers(row.info.parent))

    # -- making ---------------------------------------------------------------------------------------------------------

    def prepare(
        self, key: str, parent: str | None, *, size_limit: int | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a writable snapshot over the committed ``parent`` (None: over nothing); its `mounts`.

        ``size_limit``: bytes that may be written to it.

        Raises:
            ExistsError: there is a snapshot named ``key``.
            NotFoundError: there is no such parent.
            StoreError: the parent is not committed, the driver cannot work here, or cannot limit the size.
        """
        if size_limit is not None and not self._driver.limits_size:
            raise StoreError(
                key, f"the driver {self._driver.name} cannot limit its size", "leave the limit out, or use --driver union"
            )
        self._make(key, parent, Kind.ACTIVE, size_limit, labels)
        return self.mounts(key)

    def view(self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """Make a read-only snapshot of the committed ``parent``; its `mounts`.

        Raises:
            ExistsError, NotFoundError, StoreError: as for `prepare`.
        """
        self._make(key, parent, Kind.VIEW, None, labels)
        return self.mounts(key)

    def _make(self, key: str, parent: str | None, kind: Kind, size_limit: int | None, labels: Mapping[str, str] | None) -> None:
        self._driver.check(self._root)
        with _explained(key), adding(self._root):
            lowers = self._lowers(parent)
            with self._database.transaction() as connection:
                snapshot_rows.refuse_existing(connection, key)  # before anything is copied
            with self._places.staged() as staged:
                self._driver.create(Place(staged, size_limit), lowers, kind is Kind.ACTIVE)
                sync(staged)
                with self._database.transaction() as connection:
                    number = snapshot_rows.insert(
                        connection, key, kind, parent, driver=self._driver.name, size_limit=size_limit, labels=labels
                    )
                    if self._lowers(parent) != lowers:
                        raise InUseError(str(parent), "was removed and made anew meanwhile", "try again")
                    self._places.install(staged, number)

    def commit(self, name: str, key: str) -> None:
        """Turn the active snapshot ``key``, unmounted, into the committed ``name``: what was written becomes a layer over its
        parent.

        Raises:
            NotFoundError: there is no ``key``.
            ExistsError: there is a snapshot named ``name``.
            InUseError: it is mounted; the error says where.
            StoreError: it is not active.
        """
        with _explained(key), adding(self._root), self._locked(key) as row:
            _demand_active(row)
            self._refuse_mounted(row)
            if name != key:
                with self._database.transaction() as connection:
                    snapshot_rows.refuse_existing(connection, name)  # before anything is copied
            diff_id = self._adopt_changes(row)
            with self._database.transaction() as connection:
                snapshot_rows.make_committed(connection, row.number, name, diff_id)
            self._places.discard(row.number, self._driver_of(row).remove)

    def keep_changes(self, key: str) -> Digest:
        """Make a layer of what was written to the active snapshot ``key``, which goes on as it is; it may be mounted.  Its diff
        ID.

        The caller sees to it that nobody writes meanwhile, and holds `unionfs.store.leases.adding` until something needs the
        layer.

        Raises:
            NotFoundError: there is no ``key``.
            StoreError: it is not active.
        """
        with _explained(key), self._locked(key) as row:
            _demand_active(row)
            return self._adopt_changes(row)

    def _adopt_changes(self, row: SnapshotRow) -> Digest:
        with self._places.staged() as staged:
            layer = staged / _LAYER
            layer.mkdir()
            self._driver_of(row).commit(self._place(row), self._lowers(row.info.parent), layer)
            return self._layers.adopt(layer).diff_id

    def ensure_image(self, layers: Sequence[Digest]) -> str:
        """Committed snapshots for each of ``layers`` (diff IDs, bottom first) over those before it, named by their chain IDs; the
        name of the topmost.  Those that are there already are used.  Nothing is copied.

        Raises:
            NotFoundError: the store lacks one of the layers.
            ExistsError: somebody has committed something else under such a name.
            StoreError: there are no layers.
        """
        if not layers:
            raise StoreError("image", "has no layers", "prepare a snapshot without a parent")
        parent: str | None = None
        with adding(self._root), self._database.transaction() as connection:
            for name, diff_id in zip(chain_ids(layers), layers, strict=True):
                _ensure_link(connection, name, parent, diff_id, self._driver.name)
                parent = name
        assert parent is not None
        return parent

    # -- mounting -------------------------------------------------------------------------------------------------------

    def mount(self, key: str, target: Path) -> None:
        """Mount a snapshot on the directory ``target``.  An active one only once: two writers would not see each other's changes.

        Raises:
            NotFoundError: there is no snapshot of that name.
            InUseError: it is active and mounted already; the error says where.
            MounterError: the mount was refused.
        """
        with self._locked(key) as row:
            driver = self._driver_of(row)
            driver.check(self._root)
            if row.info.kind is Kind.ACTIVE:
                self._refuse_mounted(row)
            mount_all(self.mounts(key), target)

    def unmount(self, key_or_target: str | Path) -> None:
        """Take away the mounts of a snapshot (str) in this mount namespace, or the one on a directory (Path).  Nothing happens
        where there is none.

        Raises:
            NotFoundError: there is no snapshot of that name.
            MounterError: one is in use.
        """
        if isinstance(key_or_target, Path):
            unmount_one(key_or_target)
            return
        for each in self.mounted_at(key_or_target):
            if each.is_here:
                unmount_one(each.path)

    # -- removing -------------------------------------------------------------------------------------------------------

    def remove(self, key: str) -> None:
        """Remove a snapshot, an active one with all that was written to it.  The layer of a committed one stays until it is
        collected.

        Raises:
            NotFoundError: there is none of that name.
            InUseError: others stand on it, a container uses it, or it is mounted; the error names them.
        """
        row = snapshot_rows.find(self._database, key)
        if row.info.kind is Kind.COMMITTED or not self._places.path(row.number).exists():
            self._forget(row)
            return
        with _explained(key), self._locked(key) as row:
            self._refuse_mounted(row)
            self._forget(row)
            self._places.discard(row.number, self._driver_of(row).remove)

    def _forget(self, row: SnapshotRow) -> None:
        with self._database.transaction() as connection:
            snapshot_rows.delete(connection, row)

    def collect(self) -> list[int]:
        """Remove what nobody needs: directories that killed processes left, chains of images that are gone.  The numbers of the
        directories.

        The caller holds `unionfs.store.leases.collecting`.
        """
        with _explained(str(self._root)), self._places.staged() as aside:
            with self._database.transaction() as connection:
                _forget_unused_chains(connection)
                known = {number for (number,) in connection.execute("SELECT id FROM snapshots WHERE kind != 'committed'")}
                left = {number: self._places.set_aside(number, aside) for number in sorted(self._places.numbers() - known)}
            for directory in filter(None, left.values()):
                self._driver.remove(directory)
        return list(left)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _driver_of(self, row: SnapshotRow) -> Driver:
        return self._driver if row.driver == self._driver.name else driver_named(row.driver)

    def _place(self, row: SnapshotRow) -> Place:
        return Place(self._places.path(row.number), row.size_limit)

    def _lowers(self, parent: str | None) -> list[Path]:
        """The directories of the layers, top first."""
        diff_ids = [] if parent is None else snapshot_rows.chain(self._database, parent)
        # A second time the same layer changes nothing that the first one, on top, does not hide: but unions refuse it.
        return [self._layers.path(diff_id) for diff_id in dict.fromkeys(diff_ids)]

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[SnapshotRow]:
        """The row of an active snapshot or a view, which stays as it is meanwhile."""
        row = _not_committed(snapshot_rows.find(self._database, key))
        with contextlib.ExitStack() as lock:
            gone: CorruptError | None = None
            try:
                lock.enter_context(self._places.locked(row.number))
            except CorruptError as error:
                gone = error
            # Whoever had the lock before may have committed or removed it, or was just removing it.
            current = _not_committed(snapshot_rows.find(self._database, key))
            if current.number != row.number:
                raise InUseError(key, "was removed and made anew meanwhile", "try again")
            if gone:
                raise gone
            yield current

    def _refuse_mounted(self, row: SnapshotRow) -> None:
        directory = self._places.path(row.number)
        found = mount_points(directory)
        patience_ends = time.monotonic() + _PATIENCE
        while found and not any(each.is_here for each in found) and time.monotonic() < patience_ends:
            time.sleep(_LOOK_AGAIN)
            found = mount_points(directory)
        if found:
            where = ", ".join(str(each.path) + ("" if each.is_here else " (in another mount namespace)") for each in found)
            raise InUseError(row.info.name, f"mounted on {where}", "unmount it first")


def _not_committed(row: SnapshotRow) -> SnapshotRow:
    if row.info.kind is Kind.COMMITTED:
        raise StoreError(
            row.info.name, "is committed and has nothing to mount", "prepare or view a snapshot with it as the parent"
        )
    return row


def _demand_active(row: SnapshotRow) -> None:
    if row.info.kind is not Kind.ACTIVE:
        raise StoreError(
            row.info.name, f"cannot be committed: it is a {row.info.kind.value}", "prepare a snapshot, and commit that"
        )


@contextlib.contextmanager
def _explained(thing: str) -> Iterator[None]:
    try:
        yield
    except MounterError:
        raise
    except OSError as error:
        raise StoreError(
            thing, str(from_os_error(error)), "make room, or get the right to write to the store (--root)"
        ) from error


def _ensure_link(connection: sqlite3.Connection, name: Digest, parent: str | None, diff_id: Digest, driver: str) -> None:
    found = connection.execute("SELECT kind, parent, diff_id FROM snapshots WHERE name = ?", (name,)).fetchone()
    if found is None:
        snapshot_rows.insert(
            connection, name, Kind.COMMITTED, parent, driver=driver, diff_id=diff_id, labels={_CHAIN_LABEL: "chain"}
        )
    elif found != (Kind.COMMITTED.value, parent, diff_id):
        raise ExistsError(name, "a snapshot of that name is not the image's", "remove it")


def _forget_unused_chains(connection: sqlite3.Connection) -> None:
    layers: dict[str, list[Digest]] = {}
    for image, diff_id in connection.execute("SELECT image, diff_id FROM image_layers ORDER BY image, position"):
        layers.setdefault(image, []).append(Digest(diff_id))
    needed: set[str] = {name for stack in layers.values() for name in chain_ids(stack)}
    # What stands on an image for all its containers: one may be about to use it.
    needed |= {f"{_INIT_PREFIX}{name}" for name in needed}
    # Newest first: a parent is older than its children, and without any by then.
    rows = connection.execute(
        "SELECT id, name FROM snapshots WHERE json_extract(labels, ?) IS NOT NULL ORDER BY id DESC", (f'$."{_CHAIN_LABEL}"',)
    ).fetchall()
    for number, name in rows:
        if name not in needed:
            connection.execute(
                "DELETE FROM snapshots WHERE id = ? AND NOT EXISTS (SELECT 1 FROM snapshots AS child WHERE child.parent = ?)",
                (number, name),
            )
