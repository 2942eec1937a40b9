"""A process that is killed at any moment leaves a volume whole or not at all."""

from __future__ import annotations

import os

from tests.volumes.conftest import killed_at
from unionfs.store.store import Store
from unionfs.volumes import VolumeManager, open_volumes
from unionfs.volumes.upkeep import recover

TMPFS = {"type": "tmpfs", "device": "tmpfs"}


def in_order(volumes: VolumeManager) -> None:
    """What a later command makes of what was left; then everything fits together."""
    recover(volumes, lambda user: user == "container:1")
    volumes.collect()
    names = {volume.name for volume in volumes.all()}
    assert volumes.left_over() == []
    assert all((volumes.directory(name) / "_data").is_dir() for name in names)
    assert volumes.all_mounts() == []
    assert not any(os.path.ismount(volumes.directory(name) / "_data") for name in names)


def test_killed_while_a_volume_is_made(store: Store, volumes: VolumeManager) -> None:
    def act() -> None:
        with Store(store.root) as own:
            open_volumes(own).create("data", labels={"a": "b"})

    point = 0
    while killed_at(point, act):
        point += 1
        in_order(volumes)
        if volumes.all():
            assert volumes.get("data").labels == {"a": "b"}
            volumes.remove("data")
    assert point > 10
    assert volumes.get("data")


def test_killed_while_a_volume_is_removed(store: Store, volumes: VolumeManager) -> None:
    def act() -> None:
        with Store(store.root) as own:
            open_volumes(own).remove("data")

    def make() -> None:
        if not volumes.all():
            volumes.create("data")
            (volumes.directory("data") / "_data/file").write_text("whole")

    point = 0
    make()
    while killed_at(point, act):
        point += 1
        in_order(volumes)
        if volumes.all():
            assert (volumes.directory("data") / "_data/file").read_text() == "whole"
        make()
    assert point > 10
    assert volumes.all() == []


def test_killed_while_a_volume_is_mounted_and_unmounted(store: Store, volumes: VolumeManager) -> None:
    volumes.create("data", "local", TMPFS)

    def act() -> None:
        with Store(store.root) as own:
            volumes = open_volumes(own)
            volumes.mount("data", "container:1")
            volumes.unmount("data", "container:1")

    point = 0
    while killed_at(point, act):
        point += 1
        in_order(volumes)
    assert point > 10
