"""Volumes of the driver ``overlay``: read-only bases under a writable layer of their own."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from unionfs.mounter.lookup import known_mount
from unionfs.store.digest import Digest
from unionfs.store.errors import InUseError, NotFoundError, StoreError
from unionfs.store.gc import collect
from unionfs.store.store import Store
from unionfs.volumes import VolumeManager


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    base.mkdir(0o750)
    (base / "set").write_text("original")
    return base


def overlay(volumes: VolumeManager, name: str, **options: object) -> None:
    volumes.create(name, "overlay", {key: str(value) for key, value in options.items()})


def test_two_volumes_over_one_base_change_their_own_copies(volumes: VolumeManager, base: Path) -> None:
    for name in ("first", "second"):
        overlay(volumes, name, lower=base)
    first, second = (volumes.mount(name, "container:1") for name in ("first", "second"))
    (first / "set").write_text("changed")
    assert ((second / "set").read_text(), (base / "set").read_text()) == ("original", "original")
    volumes.release("container:1")
    assert not os.path.ismount(first)
    assert (volumes.mount("first", "container:2") / "set").read_text() == "changed"
    volumes.release("container:2")


def test_root_of_the_volume_looks_like_that_of_the_base(volumes: VolumeManager, base: Path) -> None:
    os.chown(base, 12, 34)
    overlay(volumes, "data", lower=base)
    status = volumes.mount("data", "container:1").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o750, 12, 34)
    volumes.release("container:1")


def test_several_directories_are_stacked_top_first(volumes: VolumeManager, base: Path, tmp_path: Path) -> None:
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch/set").write_text("patched")
    overlay(volumes, "data", lower=f"{tmp_path / 'patch'}:{base}")
    assert (volumes.mount("data", "container:1") / "set").read_text() == "patched"
    volumes.release("container:1")


def test_volume_over_a_volume_keeps_it(volumes: VolumeManager) -> None:
    volumes.create("dataset")
    (volumes.directory("dataset") / "_data/set").write_text("original")
    overlay(volumes, "mine", volume="dataset")
    data = volumes.mount("mine", "container:1")
    (data / "set").write_text("changed")
    volumes.release("container:1")
    assert (volumes.directory("dataset") / "_data/set").read_text() == "original"
    with pytest.raises(InUseError, match="in use by volume mine"):
        volumes.remove("dataset")
    volumes.remove("mine")
    volumes.remove("dataset")


def test_volume_over_an_image_keeps_its_layers(store: Store, volumes: VolumeManager, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "file").write_text("of the image")
    diff_id = store.layers.adopt(layer).diff_id
    image = add_image(store, diff_id)
    overlay(volumes, "data", image=image)
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM images")
    collect(store, store.snapshots)
    assert (volumes.mount("data", "container:1") / "file").read_text() == "of the image"
    volumes.release("container:1")
    volumes.remove("data")
    assert collect(store, store.snapshots).layers == (diff_id,)


def add_image(store: Store, diff_id: Digest) -> str:
    from unionfs.store.image_config import new_config
    from unionfs.store.leases import adding
    from unionfs.store.reference import Reference

    with adding(store.root):
        document = new_config([diff_id], created=1.0, base=None, config={}, created_by="test")
        return str(store.images.add(document, [diff_id], Reference("base", "latest")).id)


def test_size_limits_what_the_volume_itself_takes(volumes: VolumeManager, base: Path) -> None:
    (base / "big").write_bytes(bytes(2 << 20))
    overlay(volumes, "data", lower=base, size="1M")
    data = volumes.mount("data", "container:1")
    assert (data / "big").stat().st_size == 2 << 20
    with pytest.raises(OSError, match="No space left") as caught:
        (data / "new").write_bytes(bytes(3 << 20))
    assert caught.value.errno == errno.ENOSPC
    volumes.release("container:1")


def test_volume_whose_daemon_was_killed_is_mounted_anew(volumes: VolumeManager, base: Path) -> None:
    overlay(volumes, "data", lower=base)
    data = volumes.mount("data", "container:1")
    (data / "new").write_text("kept")
    pid = known_mount(data).record.pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert volumes.mountpoint(volumes.get("data")) is None
    assert (volumes.mount("data", "container:2") / "new").read_text() == "kept"
    volumes.release("container:2")
    volumes.release("container:1")


def test_removed_volume_leaves_nothing(volumes: VolumeManager, base: Path) -> None:
    overlay(volumes, "data", lower=base)
    (volumes.mount("data", "container:1") / "new").touch()
    volumes.release("container:1")
    volumes.remove("data")
    assert os.listdir(volumes.root / "volumes") == []
    assert os.listdir(base) == ["set"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "0 of lower, image, volume are given"),
        ({"size": "1g"}, "0 of lower"),
        ({"lower": "/a", "image": "x"}, "2 of lower, image, volume"),
        ({"lower": "a"}, "not an absolute path"),
        ({"lower": "/", "size": "big"}, "not a size"),
        ({"lower": "/", "colour": "red"}, "colour: not an option"),
        ({"volume": "../x"}, "not a name of a volume"),
    ],
)
def test_options_that_mean_nothing_are_refused(volumes: VolumeManager, options: dict[str, str], said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        volumes.create("data", "overlay", options)
    assert caught.value.exit_status == 2
    assert volumes.all() == []


@pytest.mark.parametrize("options", [{"lower": "/nowhere/at/all"}, {"image": "none"}, {"volume": "none"}])
def test_bases_that_are_not_there_are_named(volumes: VolumeManager, options: dict[str, str]) -> None:
    with pytest.raises(NotFoundError, match=r"none|/nowhere/at/all"):
        volumes.create("data", "overlay", options)
    assert volumes.all() == []
