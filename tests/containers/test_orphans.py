"""Looking for what killed monitors have left, while another monitor is making its container."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.containers.engine import Engine
from unionfs.containers.container import Container, Containers
from unionfs.containers.lifecycle import opened
from unionfs.containers.names import new_id
from unionfs.containers.options import RunOptions
from unionfs.containers.recovery import container_labels, recover, snapshot_key
from unionfs.mounter.processes import start_time
from unionfs.store.store import Store


class Watched(Containers):
    """Containers beside which something happens each time right after somebody has looked at all of them."""

    happens: Callable[[], None]

    def all(self) -> list[Container]:
        found = super().all()
        self.happens()
        return found


class Maker:
    """A monitor that has made the writable layers of containers, and records and makes one after the other."""

    def __init__(self, store: Store, containers: Containers) -> None:
        self._containers = containers
        self._image = store.images.find("box")
        self._process = subprocess.Popen(["sleep", "1000"])
        parent = store.snapshots.ensure_image(self._image.layers)
        maker = {"unionfs.maker": f"{self._process.pid} {start_time(self._process.pid)}"}
        self._prepared = [new_id() for _ in range(4)]
        for container_id in self._prepared:
            store.snapshots.prepare(snapshot_key(container_id), parent, labels=container_labels(container_id) | maker)
        self.made: list[Container] = []

    def make(self) -> None:
        """Record the next one, and make its directories."""
        if self._prepared:
            container_id = self._prepared.pop()
            container = self._containers.add(container_id, self._image.id, snapshot_key(container_id), RunOptions("box"))
            container.rootfs.mkdir(parents=True)
            self.made.append(container)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def store_and_containers(engine: Engine) -> Iterator[tuple[Store, Watched]]:
    with opened(engine.root) as (store, _):
        yield store, Watched(engine.root, store.database)


@pytest.fixture
def maker(store_and_containers: tuple[Store, Watched]) -> Iterator[Maker]:
    store, containers = store_and_containers
    maker = Maker(store, containers)
    yield maker
    maker.end()
    for container in maker.made:
        containers.forget(container)


def test_the_directory_of_a_container_that_is_just_recorded_is_no_orphan(
    store_and_containers: tuple[Store, Watched], maker: Maker
) -> None:
    store, containers = store_and_containers
    containers.happens = maker.make
    recover(store, containers)
    assert len(maker.made) >= 2
    assert [container.rootfs.is_dir() for container in maker.made] == [True] * len(maker.made)


def test_the_layer_of_a_container_that_is_recorded_and_ends_meanwhile_is_no_orphan(
    store_and_containers: tuple[Store, Watched], maker: Maker
) -> None:
    def make_the_last_ones_and_end() -> None:
        maker.make()
        if len(maker.made) == 2:
            for _ in range(2):
                maker.make()
            maker.end()

    store, containers = store_and_containers
    containers.happens = make_the_last_ones_and_end
    recover(store, containers)
    assert len(maker.made) == 4
    assert {snapshot_key(container.id) for container in maker.made} <= {info.name for info in store.snapshots.walk()}
