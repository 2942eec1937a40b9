"""Project IDs on filesystems of this machine; the quotas themselves: tests/mounter/test_project_quota.py."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.linux.project_quota import Project, get_project, get_usage, has_project_quota, set_limit, set_project


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A filesystem with project IDs, mounted without quotas."""
    directory = tmp_path_factory.mktemp("xfs")
    image, top = directory / "image", directory / "mounted"
    top.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, top], check=True, timeout=60)
    yield top
    subprocess.run(["umount", top], check=True, timeout=60)


@pytest.fixture
def directory(disk: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    path = disk / request.node.name
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_new_directory_has_no_project(directory: int) -> None:
    assert get_project(directory) == Project(0, inherits=False)


def test_what_is_made_in_a_directory_inherits_its_project(directory: int) -> None:
    set_project(directory, Project(0x55000001, inherits=True))
    assert get_project(directory) == Project(0x55000001, inherits=True)
    os.mkdir(b"below", dir_fd=directory)
    below = os.open(b"below", os.O_RDONLY, dir_fd=directory)
    assert get_project(below) == Project(0x55000001, inherits=True)
    file = os.open(b"file", os.O_CREAT | os.O_RDWR, dir_fd=below)
    assert get_project(file).id == 0x55000001
    os.close(file)
    os.close(below)


def test_nothing_is_moved_or_linked_into_another_project(directory: int) -> None:
    """Why upper, work directory and snapshots must have the same one."""
    os.close(os.open(b"file", os.O_CREAT | os.O_RDWR, dir_fd=directory))
    os.mkdir(b"below", dir_fd=directory)
    below = os.open(b"below", os.O_RDONLY, dir_fd=directory)
    set_project(below, Project(0x55000002, inherits=True))
    for change in (os.rename, os.link):
        with pytest.raises(OSError, match="cross-device link") as caught:
            change(b"file", b"file", src_dir_fd=directory, dst_dir_fd=below)
        assert caught.value.errno == errno.EXDEV
    set_project(below, Project(0, inherits=False))
    os.rename(b"file", b"file", src_dir_fd=directory, dst_dir_fd=below)
    os.close(below)


def test_filesystem_that_is_mounted_without_quotas_has_none(directory: int) -> None:
    assert not has_project_quota(directory)
    with pytest.raises(OSError, match=r".") as caught:
        get_usage(directory, 1)
    assert caught.value.errno in (errno.ESRCH, errno.ENOSYS, errno.EINVAL)
    with pytest.raises(OSError, match=r".") as caught:
        set_limit(directory, 1, 1 << 20)
    assert caught.value.errno in (errno.ESRCH, errno.ENOSYS, errno.EINVAL)


def test_filesystem_without_projects_is_told() -> None:
    fd = os.open("/proc/self", os.O_RDONLY)
    assert not has_project_quota(fd)
    with pytest.raises(OSError, match=r".") as caught:
        get_project(fd)
    assert caught.value.errno in (errno.ENOTTY, errno.EOPNOTSUPP)
    os.close(fd)
