"""A store with layers made by hand, for each driver."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviour.tree import Snapshot
from tests.btrfs import btrfs
from unionfs.store.database import Database
from unionfs.store.digest import Digest
from unionfs.store.drivers.selection import driver_named
from unionfs.store.layers import Layers
from unionfs.store.leases import adding
from unionfs.store.snapshotter import Snapshotter

__all__ = ["btrfs"]  # the fixture


class Bench:
    """A store, and places to mount its snapshots on."""

    def __init__(self, directory: Path, driver: str) -> None:
        self.directory = directory
        self.root = directory / "store"
        self.database = Database(self.root)
        self.layers = Layers(self.root, self.database)
        self.driver = driver
        self.snapshots = self.with_driver(driver)
        self._numbers = itertools.count()

    def with_driver(self, driver: str) -> Snapshotter:
        return Snapshotter(self.root, self.database, self.layers, driver_named(driver))

    def reopened(self) -> Snapshotter:
        """As another process would open it."""
        database = Database(self.root)
        return Snapshotter(self.root, database, Layers(self.root, database), driver_named(self.driver))

    def image(self, *builds: Callable[[Path], None]) -> str:
        """The topmost snapshot of an image of these layers, bottom first."""
        layers = [self.layer(build) for build in builds]
        name = self.snapshots.ensure_image(layers)
        with self.database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO images VALUES (?, 1.0)", (name,))
            rows = [(name, position, layer) for position, layer in enumerate(layers)]
            connection.executemany("INSERT OR IGNORE INTO image_layers VALUES (?, ?, ?)", rows)
        return name

    def layer(self, build: Callable[[Path], None]) -> Digest:
        directory = self.directory / f"layer{next(self._numbers)}"
        directory.mkdir()
        build(directory)
        return self.adopt(directory)

    def adopt(self, directory: Path) -> Digest:
        """What is in it becomes a layer; the directory goes."""
        with adding(self.root):
            return self.layers.adopt(directory).diff_id

    def target(self) -> Path:
        target = self.directory / f"mnt{next(self._numbers)}"
        target.mkdir()
        return target

    @contextlib.contextmanager
    def mounted(self, key: str, snapshots: Snapshotter | None = None) -> Iterator[Path]:
        snapshots = snapshots or self.snapshots
        target = self.target()
        snapshots.mount(key, target)
        try:
            yield target
        finally:
            snapshots.unmount(target)

    def seen(self, key: str, snapshots: Snapshotter | None = None) -> Snapshot:
        """What a mount of it shows."""
        with self.mounted(key, snapshots) as target:
            return Snapshot.of(target)

    def names(self) -> list[str]:
        return [info.name for info in self.snapshots.walk()]

    def directories(self) -> list[str]:
        """What there is in snapshots/ and staging/."""
        folders = (self.root / name for name in ("snapshots", "staging"))
        return sorted(str(path.relative_to(self.root)) for folder in folders if folder.exists() for path in folder.iterdir())


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture(params=["union", "overlay", "copy", "btrfs"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A store for each driver."""
    directory = tmp_path
    if request.param == "btrfs":
        directory = Path(tempfile.mkdtemp(dir=request.getfixturevalue("btrfs")))
    bench = Bench(directory, request.param)
    yield bench
    bench.database.close()
