"""Options of the driver ``local``, as docker's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.linux import mount as m
from unionfs.store.errors import StoreError
from unionfs.volumes import VolumeManager
from unionfs.volumes.drivers.local import LocalDriver
from unionfs.volumes.drivers.mount_options import parse_words, without_secrets


@pytest.mark.parametrize(
    ("text", "flags", "data"),
    [
        ("", 0, ""),
        ("ro,nosuid,nodev,noexec", m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC, ""),
        ("size=1m,uid=1000", 0, "size=1m,uid=1000"),
        ("ro,rw", 0, ""),
        ("bind", m.MS_BIND, ""),
        ("rbind,ro", m.MS_BIND | m.MS_REC | m.MS_RDONLY, ""),
        ("addr=10.0.0.1,nfsvers=4,noatime,_netdev", m.MS_NOATIME, "addr=10.0.0.1,nfsvers=4"),
    ],
)
def test_words_of_mount_become_flags_and_data(text: str, flags: int, data: str) -> None:
    assert parse_words(text) == (flags, data)


def test_password_is_not_shown() -> None:
    assert without_secrets("user=a,password=b,ro") == "user=a,password=********,ro"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"colour": "red"}, "colour: not an option"),
        ({"type": "tmpfs"}, "means nothing without device"),
        ({"device": "tmpfs"}, "means nothing without type"),
        ({"o": "ro"}, "means nothing without type"),
        ({"type": "none", "device": "relative", "o": "bind"}, "not an absolute path"),
        ({"size": "1g"}, "cannot limit"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        LocalDriver().check(options)
    assert caught.value.exit_status == 2


def test_bound_directory_is_shown_and_stays_when_the_volume_goes(volumes: VolumeManager, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("data")
    volumes.create("bound", "local", {"type": "none", "device": str(source), "o": "bind"})
    data = volumes.mount("bound", "container:1")
    assert (data / "file").read_text() == "data"
    (data / "new").touch()
    volumes.unmount("bound", "container:1")
    volumes.remove("bound")
    assert sorted(os.listdir(source)) == ["file", "new"]


def test_read_only_bind_cannot_be_written(volumes: VolumeManager, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    volumes.create("bound", "local", {"type": "none", "device": str(tmp_path / "source"), "o": "bind,ro"})
    data = volumes.mount("bound", "container:1")
    with pytest.raises(OSError, match="Read-only"):
        (data / "new").touch()
    volumes.unmount("bound", "container:1")


def test_filesystem_that_the_kernel_lacks_is_named(volumes: VolumeManager) -> None:
    volumes.create("odd", "local", {"type": "nosuchfs", "device": "x", "o": "password=secret"})
    with pytest.raises(StoreError, match=r"nosuchfs.*/proc/filesystems") as caught:
        volumes.mount("odd", "container:1")
    assert "secret" not in str(caught.value)


def test_unknown_host_of_nfs_is_named(volumes: VolumeManager) -> None:
    volumes.create("nas", "local", {"type": "nfs", "device": ":/export", "o": "addr=no-such-host.invalid,rw"})
    with pytest.raises(StoreError, match=r"no-such-host\.invalid is not known"):
        volumes.mount("nas", "container:1")
