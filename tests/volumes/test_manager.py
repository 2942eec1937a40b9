"""Volumes are made, found, used and removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.volumes.conftest import record_container
from unionfs.linux.mount import MS_BIND, mount, umount
from unionfs.mounter.processes import start_time
from unionfs.store.errors import CorruptError, ExistsError, InUseError, NotFoundError, StoreError
from unionfs.store.store import Store
from unionfs.volumes import Filling, Peer, VolumeManager, open_volumes, rows
from unionfs.volumes.filters import parse_filters
from unionfs.volumes.stale import stale_mounts
from unionfs.volumes.upkeep import findings, prune, recover

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}


def ended_peer() -> Peer:
    """A process that was, and is no more."""
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    assert started is not None
    child.communicate()
    return Peer(child.pid, started)


# -- making ---------------------------------------------------------------------------------------------------------------


def test_created_volume_has_an_empty_data_directory(volumes: VolumeManager) -> None:
    volume = volumes.create("data", labels={"project": "site"})
    data = volumes.mountpoint(volume)
    assert data == volumes.root / "volumes/data/_data"
    assert os.listdir(data) == []
    assert data.stat().st_mode & 0o7777 == 0o755
    assert (volume.labels, volume.filling, volume.anonymous) == ({"project": "site"}, Filling.NEW, False)


def test_volumes_of_others_cannot_be_listed(volumes: VolumeManager) -> None:
    volumes.create("data")
    assert (volumes.root / "volumes").stat().st_mode & 0o7777 == 0o701


def test_volume_without_a_name_is_anonymous(volumes: VolumeManager) -> None:
    volume = volumes.create()
    assert volume.anonymous
    assert len(volume.name) == 64
    assert int(volume.name, 16) >= 0


@pytest.mark.parametrize("name", ["", "a", "-a", ".a", "a/b", "a b", "ä1", "a\n", "..", "a" * 256])
def test_names_that_are_none_are_refused(volumes: VolumeManager, name: str) -> None:
    with pytest.raises(StoreError, match="not a name of a volume") as caught:
        volumes.create(name)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", ["ab", "0_", "a.-_", "A" * 255])
def test_names_as_docker_takes_them(volumes: VolumeManager, name: str) -> None:
    assert volumes.get(volumes.create(name).name).name == name


def test_same_volume_again_is_no_error(volumes: VolumeManager) -> None:
    assert volumes.create("data", "local", TMPFS) == volumes.create("data", "local", TMPFS)


def test_same_name_with_other_options_is_refused(volumes: VolumeManager) -> None:
    volumes.create("data")
    with pytest.raises(ExistsError, match="other options"):
        volumes.create("data", "local", TMPFS)


def test_ensure_takes_a_volume_as_it_is(volumes: VolumeManager) -> None:
    made = volumes.create("data", "local", TMPFS)
    assert volumes.ensure("data") == made


def test_ensure_refuses_another_driver(volumes: VolumeManager) -> None:
    volumes.create("data")
    with pytest.raises(ExistsError, match="driver local, not other"):
        volumes.ensure("data", "other")


def test_unknown_driver_is_named(volumes: VolumeManager) -> None:
    with pytest.raises(NotFoundError, match="nas: no such volume driver"):
        volumes.create("data", "nas")
    assert volumes.all() == []


def test_directory_that_a_killed_process_left_gives_way(volumes: VolumeManager) -> None:
    left = volumes.root / "volumes/data/_data"
    left.mkdir(parents=True)
    (left / "old").touch()
    volumes.create("data")
    assert os.listdir(left) == []


# -- finding --------------------------------------------------------------------------------------------------------------


def test_filters_as_docker_means_them(store: Store, volumes: VolumeManager) -> None:
    volumes.create("web-data", labels={"project": "site", "x": ""})
    volumes.create("db-data", labels={"project": "db"})
    volumes.create("web-cache")
    record_container(store, "c1", "web-cache")

    def named(*words: str) -> list[str]:
        return [volume.name for volume in volumes.all(parse_filters(words))]

    assert named("name=web") == ["web-cache", "web-data"]
    assert named("name=web", "name=db") == ["db-data", "web-cache", "web-data"]
    assert named("label=project") == ["db-data", "web-data"]
    assert named("label=project=site") == ["web-data"]
    assert named("label=project", "label=x") == ["web-data"]
    assert named("label!=project") == ["web-cache"]
    assert named("driver=local", "name=db") == ["db-data"]
    assert named("driver=nas") == []
    assert named("dangling=true") == ["db-data", "web-data"]
    assert named("dangling=0") == ["web-cache"]


@pytest.mark.parametrize("word", ["name", "name=", "size=1", "dangling=perhaps"])
def test_wrong_filters_are_refused(word: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_filters([word])
    assert caught.value.exit_status == 2


# -- using ----------------------------------------------------------------------------------------------------------------


def test_tmpfs_volume_is_mounted_for_the_first_and_unmounted_after_the_last(volumes: VolumeManager) -> None:
    volume = volumes.create("scratch", "local", TMPFS)
    assert volumes.mountpoint(volume) is None
    data = volumes.mount("scratch", "container:1")
    assert os.path.ismount(data)
    assert data.stat().st_mode & 0o7777 == 0o700
    assert volumes.mount("scratch", "container:2") == data
    volumes.unmount("scratch", "container:1")
    assert os.path.ismount(data)
    volumes.unmount("scratch", "container:2")
    assert not os.path.ismount(data)


def test_same_user_is_counted(volumes: VolumeManager) -> None:
    volumes.create("scratch", "local", TMPFS)
    data = volumes.mount("scratch", "plugin:a")
    volumes.mount("scratch", "plugin:a")
    assert [mount.count for mount in volumes.mounts("scratch")] == [2]
    volumes.unmount("scratch", "plugin:a")
    assert os.path.ismount(data)
    volumes.unmount("scratch", "plugin:a")
    assert not os.path.ismount(data)


def test_unmount_of_a_user_without_a_mount_does_nothing(volumes: VolumeManager) -> None:
    volumes.create("scratch", "local", TMPFS)
    data = volumes.mount("scratch", "plugin:a")
    volumes.unmount("scratch", "plugin:b")
    assert os.path.ismount(data)
    volumes.unmount("scratch", "plugin:a")


def test_failed_mount_leaves_no_user(volumes: VolumeManager) -> None:
    volumes.create("gone", "local", {"type": "none", "device": "/nowhere/at/all", "o": "bind"})
    with pytest.raises(StoreError, match="device=/nowhere/at/all"):
        volumes.mount("gone", "container:1")
    assert volumes.mounts("gone") == []


def test_busy_volume_loses_its_user_and_is_unmounted_later(volumes: VolumeManager) -> None:
    volumes.create("scratch", "local", TMPFS)
    data = volumes.mount("scratch", "container:1")
    with (data / "open").open("w"), pytest.raises(InUseError, match="in use"):
        volumes.unmount("scratch", "container:1")
    assert os.path.ismount(data)
    assert volumes.users("scratch") == []
    recover(volumes, lambda _: False)
    assert not os.path.ismount(data)


def test_release_undoes_all_of_a_user(volumes: VolumeManager) -> None:
    for name in ("first", "second"):
        volumes.create(name, "local", TMPFS)
        volumes.mount(name, "container:1")
        volumes.mount(name, "container:1")
    volumes.release("container:1")
    assert volumes.all_mounts() == []
    assert not any(os.path.ismount(volumes.root / "volumes" / name / "_data") for name in ("first", "second"))


def test_recover_releases_users_that_are_gone_alone(volumes: VolumeManager) -> None:
    volumes.create("scratch", "local", TMPFS)
    data = volumes.mount("scratch", "container:gone")
    volumes.mount("scratch", "container:here")
    recover(volumes, lambda user: user == "container:gone")
    assert [mount.user for mount in volumes.mounts("scratch")] == ["container:here"]
    assert os.path.ismount(data)
    recover(volumes, lambda _: True)
    assert not os.path.ismount(data)


def test_mounts_of_an_earlier_boot_do_not_count(volumes: VolumeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes.create("data")
    volumes.mount("data", "plugin:a")
    volumes.mount("data", "plugin:a")
    monkeypatch.setattr(rows, "boot_id", lambda: "another")
    assert volumes.users("data") == []
    volumes.mount("data", "plugin:a")
    assert [mount.count for mount in volumes.mounts("data")] == [1]
    volumes.unmount("data", "plugin:a")
    volumes.remove("data")


# -- removing -------------------------------------------------------------------------------------------------------------


def test_removed_volume_is_gone_with_its_data(volumes: VolumeManager) -> None:
    volumes.create("data")
    (volumes.root / "volumes/data/_data/file").touch()
    volumes.remove("data")
    assert volumes.all() == []
    assert os.listdir(volumes.root / "volumes") == []
    assert os.listdir(volumes.root / "staging") == []


def test_volume_that_a_container_names_stays_and_the_error_says_whose(store: Store, volumes: VolumeManager) -> None:
    volumes.create("data")
    record_container(store, "c1", "data")
    with pytest.raises(InUseError, match="in use by container name-c1"):
        volumes.remove("data")
    assert volumes.get("data")
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM containers")
    volumes.remove("data")


def test_volume_that_an_engine_has_mounted_stays(volumes: VolumeManager) -> None:
    volumes.create("data")
    volumes.mount("data", "plugin:abc", Peer(os.getpid(), start_time(os.getpid()) or 0))
    with pytest.raises(InUseError, match="in use by plugin abc"):
        volumes.remove("data", force=True)
    volumes.unmount("data", "plugin:abc")
    volumes.remove("data")


def test_force_releases_what_an_ended_engine_holds(volumes: VolumeManager) -> None:
    volumes.create("scratch", "local", TMPFS)
    data = volumes.mount("scratch", "plugin:abc", ended_peer())
    with pytest.raises(InUseError):
        volumes.remove("scratch")
    volumes.remove("scratch", force=True)
    assert not data.exists()


def test_force_leaves_alone_what_a_container_of_an_ended_engine_has_mounted(volumes: VolumeManager, tmp_path: Path) -> None:
    volumes.create("data")
    data = volumes.mount("data", "plugin:abc", ended_peer())
    (tmp_path / "inside").mkdir()
    mount(os.fsencode(data), os.fsencode(tmp_path / "inside"), b"", MS_BIND, b"")
    assert stale_mounts(volumes, "data") == []
    with pytest.raises(InUseError, match="in use by plugin abc"):
        volumes.remove("data", force=True)
    umount(os.fsencode(tmp_path / "inside"), 0)
    volumes.remove("data", force=True)


def test_volume_whose_directory_is_gone_can_be_removed(volumes: VolumeManager) -> None:
    volumes.create("data")
    (volumes.root / "volumes/data/_data").rmdir()
    (volumes.root / "volumes/data").rmdir()
    with pytest.raises(CorruptError, match="directory of the volume is gone"):
        volumes.mount("data", "container:1")
    volumes.remove("data")
    assert volumes.all() == []


def test_prune_removes_unused_anonymous_volumes_alone(store: Store, volumes: VolumeManager) -> None:
    named, unused, used, mounted = volumes.create("data"), volumes.create(), volumes.create(), volumes.create()
    record_container(store, "c1", used.name)
    volumes.mount(mounted.name, "container:c2")
    (volumes.root / "volumes" / unused.name / "_data/file").write_bytes(bytes(8192))
    pruned = prune(volumes, parse_filters(()))
    assert pruned.names == (unused.name,)
    assert pruned.freed >= 8192
    assert {volume.name for volume in volumes.all()} == {named.name, used.name, mounted.name}


def test_prune_of_all_takes_named_ones_that_match(volumes: VolumeManager) -> None:
    volumes.create("data", labels={"keep": ""})
    volumes.create("cache")
    assert prune(volumes, parse_filters(["label!=keep"]), named_too=True).names == ("cache",)


# -- telling --------------------------------------------------------------------------------------------------------------


def test_findings_name_what_is_not_in_order(volumes: VolumeManager) -> None:
    assert [finding.ok for _, finding in findings(volumes)] == [True]
    volumes.create("stale")
    volumes.mount("stale", "plugin:abc", ended_peer())
    volumes.create("half")
    volumes.set_filling("half", Filling.COPYING)
    volumes.create("lost")
    (volumes.root / "volumes/lost/_data").rmdir()
    (volumes.root / "volumes/lost").rmdir()
    (volumes.root / "volumes/nobodys").mkdir()
    found = {name: finding.detail for name, finding in findings(volumes)}
    assert set(found) == {"volume stale", "volume half", "volume lost", "volumes"}
    assert "plugin:abc" in found["volume stale"]
    assert "nobodys" in found["volumes"]


def test_collect_removes_directories_that_no_volume_has(volumes: VolumeManager) -> None:
    volumes.create("data")
    left = volumes.root / "volumes/left/_data"
    left.mkdir(parents=True)
    assert volumes.collect() == ["left"]
    assert os.listdir(volumes.root / "volumes") == ["data"]


def test_what_somebody_has_mounted_in_a_volume_is_not_emptied_with_it(volumes: VolumeManager, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").touch()
    volumes.create("data")
    place = volumes.directory("data") / "_data/mnt"
    place.mkdir()
    mount(os.fsencode(tmp_path / "theirs"), os.fsencode(place), b"", MS_BIND, b"")
    with pytest.raises(InUseError, match=r"something is mounted in the volume, on .*/mnt"):
        volumes.remove("data")
    umount(os.fsencode(place), 0)
    volumes.remove("data")
    assert (tmp_path / "theirs/file").exists()


def test_left_over_directory_with_a_mount_stays(volumes: VolumeManager) -> None:
    place = volumes.root / "volumes/left/_data"
    place.mkdir(parents=True)
    mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"")
    assert volumes.collect() == []
    umount(os.fsencode(place), 0)
    assert volumes.collect() == ["left"]


def test_restart_knows_everything(store: Store, volumes: VolumeManager) -> None:
    made = volumes.create("scratch", "local", TMPFS, {"a": "b"})
    data = volumes.mount("scratch", "plugin:x")
    with Store(store.root) as again:
        reopened = open_volumes(again)
        assert reopened.get("scratch") == made
        assert reopened.mountpoint(made) == data
        reopened.unmount("scratch", "plugin:x")
    assert not os.path.ismount(data)


def test_root_of_a_volume_is_reached_by_other_users(volumes: VolumeManager, tmp_path: Path) -> None:
    volumes.create("data")
    assert (tmp_path / "store/volumes/data").stat().st_mode & 0o7777 == 0o701
