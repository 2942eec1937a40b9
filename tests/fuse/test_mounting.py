"""mount(2) and fusermount3, for real."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.serving import DEADLINE, served
from tests.fuse.unprivileged import SOURCE
from tests.mounts import is_mounted
from unionfs.fuse import fusermount, mounting
from unionfs.fuse.mount_error import MountError
from unionfs.fuse.mounting import MountOptions, mount, unmount
from unionfs.linux import mount as linux_mount
from unionfs.linux.mountinfo import Mount, read_mountinfo


def mount_line(mountpoint: Path) -> Mount:
    (line,) = [line for line in read_mountinfo() if line.mount_point == mountpoint]
    return line


def test_mount_shows_source_type_and_options(tmp_path: Path) -> None:
    options = MountOptions(
        source="layers, and more",
        subtype="test",
        flags=linux_mount.MS_RDONLY | linux_mount.MS_NOSUID | linux_mount.MS_NODEV | linux_mount.MS_NOEXEC,
        allow_other=True,
        extra=("max_read=65536",),
    )
    fd = mount(tmp_path, options)
    try:
        line = mount_line(tmp_path)
        assert (line.fstype, line.source) == ("fuse.test", "layers, and more")
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.options.split(","))
        assert {"default_permissions", "allow_other", "max_read=65536"} <= set(line.super_options.split(","))
    finally:
        unmount(tmp_path)
        os.close(fd)
    assert not is_mounted(tmp_path)


def test_descriptor_is_of_the_fuse_device_nonblocking_and_cloexec(tmp_path: Path) -> None:
    fd = mount(tmp_path, MountOptions())
    try:
        assert stat.S_ISCHR(os.fstat(fd).st_mode)
        assert not os.get_blocking(fd)
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        unmount(tmp_path)
        os.close(fd)


def test_missing_mount_point_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MountError) as caught:
        mount(tmp_path / "missing", MountOptions())
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value) == f"{tmp_path}/missing: no such directory; make it first: mkdir"


def test_mount_point_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match="is no directory") as caught:
        mount(tmp_path / "file", MountOptions())
    assert caught.value.errno == errno.ENOTDIR


def test_option_that_the_kernel_does_not_know_is_refused_and_no_descriptor_leaks(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError, match="refuses the mount options") as caught:
        mount(tmp_path, MountOptions(extra=("no_such_option",)))
    assert caught.value.errno == errno.EINVAL
    assert len(os.listdir("/proc/self/fd")) == before
    assert not is_mounted(tmp_path)


def test_missing_device_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "FUSE_DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(MountError, match=r"/fuse: no such device; .*modprobe fuse"):
        mount(tmp_path, MountOptions())


def test_unmounting_twice_is_an_error(tmp_path: Path) -> None:
    os.close(mount(tmp_path, MountOptions()))
    unmount(tmp_path)
    with pytest.raises(MountError, match="is not mounted") as caught:
        unmount(tmp_path)
    assert caught.value.errno == errno.EINVAL


def test_mount_in_use_is_busy_unless_unmounted_lazily(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    merged = tmp_path / "merged"
    merged.mkdir()
    filesystem = FakeFilesystem(tmp_path / "real")
    filesystem.add(b"f", b"content")
    with served(merged, filesystem):
        fd = os.open(merged / "f", os.O_RDONLY)
        with pytest.raises(MountError, match="in use") as caught:
            unmount(merged)
        assert caught.value.errno == errno.EBUSY
        unmount(merged, lazy=True)
        assert not is_mounted(merged)
        assert os.read(fd, 100) == b"content"
        os.close(fd)


# -- fusermount3 ------------------------------------------------------------------------------------------------------


def as_nobody(case: str) -> Any:
    """What a case of `tests.fuse.unprivileged` printed."""
    command = [sys.executable, "-m", "tests.fuse.unprivileged", case]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=DEADLINE).stdout)


def test_unprivileged_user_mounts_and_unmounts_by_fusermount3() -> None:
    assert as_nobody("mount and unmount") == {
        "fstype": "fuse.unionfs",
        "source": SOURCE,
        "read_only": True,
        "owner": True,
        "blocking": False,
        "cloexec": True,
        "left": False,
    }


def test_allow_other_of_an_unprivileged_user_names_the_line_to_add() -> None:
    outcome = as_nobody("allow_other")
    assert outcome["errno"] == errno.EPERM
    assert "add the line user_allow_other to /etc/fuse.conf" in outcome["error"]


def test_unmounting_what_is_not_mounted_is_an_error_for_an_unprivileged_user() -> None:
    assert as_nobody("unmount what is not mounted") == {"errno": errno.EINVAL, "error": "/mnt/merged: is not mounted"}


def test_allow_root_of_an_unprivileged_user_is_refused() -> None:
    outcome = as_nobody("allow_root")
    assert outcome["errno"] == errno.EINVAL
    assert "use allow_other" in outcome["error"]


def test_missing_fusermount3_is_named_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MountError, match="fusermount3: not found; install the package fuse3"):
        fusermount.unmount(tmp_path, lazy=False)
