"""Size limits by project quotas: `tests.mounter.test_project_quota` runs this on a machine that has them."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mounts import start_unionfs
from unionfs.linux.inode_flags import FS_NODUMP_FL, get_flags, get_fsxattr, set_flags, set_fsxattr
from unionfs.linux.project_quota import (
    FS_PROJINHERIT_FL,
    FS_XFLAG_PROJINHERIT,
    Project,
    get_project,
    has_project_quota,
    set_project,
)
from unionfs.mounter.control import ask
from unionfs.mounter.daemon import start_daemon
from unionfs.mounter.errors import MounterError
from unionfs.mounter.lookup import living_mount
from unionfs.mounter.options import parse_options
from unionfs.mounter.request import build_request
from unionfs.mounter.snapshots import rollback, take_snapshot
from unionfs.mounter.unmounting import unmount_union
from unionfs.overlay.upper_project import IDS, claim

LIMIT = 4 << 20
SLACK = 128 << 10
"""Bytes that directories, work directory and what XFS allocates in advance may take of it."""
IN_ADVANCE = {"xfs": 2 << 20, "ext4": 0}
"""Bytes that the filesystem sets aside for a file of 1 MiB that grows (XFS: speculative preallocation)."""
TIMEOUT = 60.0

_MKFS = {"xfs": ("mkfs.xfs", "-q"), "ext4": ("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota")}
_FULL = {"xfs": errno.ENOSPC, "ext4": errno.EDQUOT}


on_xfs = pytest.mark.parametrize("disk", ["xfs"], indirect=True)
"""For what is the same on each filesystem: this machine is slow."""


class Disk:
    """A filesystem with project quotas, and unions on it."""

    def __init__(self, kind: str, top: Path) -> None:
        self.kind = kind
        self.top = top
        self.full = _FULL[kind]
        self._count = 0

    def union(self) -> Union:
        self._count += 1
        return Union(self, self.top / str(self._count))


class Union:
    """One union: its directories, mounted and unmounted at will."""

    def __init__(self, disk: Disk, top: Path) -> None:
        self.disk = disk
        self._daemon = -1
        self.lower, self.upper, self.merged = (top / name for name in ("lower", "upper", "merged"))
        for directory in (self.lower / "dir", self.upper, self.merged):
            directory.mkdir(parents=True)
        (self.lower / "file").write_bytes(b"l" * 300_000)
        os.link(self.lower / "file", self.lower / "other name")
        (self.lower / "link").symlink_to("file")
        os.mkfifo(self.lower / "dir/fifo")

    def mount(self, *options: str) -> Path:
        """Mount with these options.  Not by a command: Python takes its time to start on that machine."""
        request = build_request(parse_options(options), self.merged, lowers=[self.lower], upper=self.upper)
        self._daemon = start_daemon(request)
        return self.merged

    def umount(self) -> None:
        unmount_union(self.merged)
        os.waitpid(self._daemon, 0)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(living_mount(self.merged).directory, "status")
        return status

    def is_accounted(self) -> bool:
        union = self.status()["union"]
        return "size_limit" in union and "size_project" not in union

    def available(self) -> int:
        st = os.statvfs(self.merged)
        return st.f_bavail * st.f_frsize

    def fill(self, name: str) -> int:
        """Write until there is no room; how much was written."""
        written = 0
        try:
            with (self.merged / name).open("ab", buffering=0) as file:
                while True:
                    written += file.write(b"x" * 65536)
        except OSError as error:
            if error.errno != self.disk.full:
                raise
            return written


@pytest.fixture(scope="module", params=["xfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    directory = tmp_path_factory.mktemp(request.param)
    image, top = directory / "image", directory / "mounted"
    top.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    subprocess.run([*_MKFS[request.param], image], check=True)
    subprocess.run(["mount", "-o", "loop,prjquota", image, top], check=True)
    yield Disk(request.param, top)
    subprocess.run(["umount", top], check=True)


@pytest.fixture
def union(disk: Disk) -> Iterator[Union]:
    union = disk.union()
    yield union
    if os.path.ismount(union.merged):
        union.umount()


def project_of(path: Path) -> Project:
    fd = os.open(path, os.O_RDONLY)
    try:
        return get_project(fd)
    finally:
        os.close(fd)


def wait_for_room(union: Union, size: int) -> None:
    """The kernel forgets a removed file a moment after unlink(2), and XFS frees it a moment after that."""
    deadline = time.monotonic() + TIMEOUT
    while union.available() < size:
        assert time.monotonic() < deadline, f"{union.available()} bytes free, not {size}"
        time.sleep(0.01)  # between two looks only


def test_filesystem_has_project_quota(disk: Disk) -> None:
    fd = os.open(disk.top, os.O_RDONLY)
    assert has_project_quota(fd)
    os.close(fd)


def test_filesystem_keeps_the_limit(union: Union) -> None:
    merged = union.mount("size=4M")
    status = union.status()
    assert status["data_path"] == "auto"
    assert status["union"]["size_project"] == project_of(union.upper).id
    assert f"quota of project {project_of(union.upper).id}, " in start_unionfs(["status", merged])
    st = os.statvfs(merged)
    assert st.f_blocks * st.f_frsize == LIMIT
    assert LIMIT - SLACK <= union.fill("new") <= LIMIT
    assert union.available() <= SLACK
    assert union.status()["union"]["size_used"] <= LIMIT
    (merged / "new").unlink()
    wait_for_room(union, LIMIT - SLACK)


def test_copy_up_that_does_not_fit_leaves_the_file_as_it_was(union: Union) -> None:
    merged = union.mount("size=4M")
    union.fill("new")
    with pytest.raises(OSError) as caught, (merged / "file").open("r+b") as file:  # noqa: PT011 - the number is looked at
        file.write(b"n")
    assert caught.value.errno == union.disk.full
    assert (merged / "file").read_bytes() == b"l" * 300_000
    assert not (union.upper / "file").exists()


@pytest.mark.parametrize("index", ["on", "off"])
def test_everything_in_the_upper_can_be_moved_and_linked(union: Union, index: str) -> None:
    merged = union.mount("size=4M", f"index={index}")
    with (merged / "file").open("ab") as file:
        file.write(b"more")
    os.link(merged / "file", merged / "dir/third")
    os.rename(merged / "link", merged / "dir/link")
    os.rename(merged / "dir/fifo", merged / "fifo")
    os.rename(merged / "dir", merged / "renamed")
    (merged / "new").mkdir()
    os.rename(merged / "renamed/third", merged / "new/third")
    (merged / "file").unlink()
    assert sorted(os.listdir(merged)) == ["fifo", "new", "other name", "renamed"]
    own = project_of(union.upper)
    assert {project_of(union.upper / name) for name in ("new", "renamed")} == {own}
    assert project_of(union.upper / "new/third").id == own.id in IDS


def test_limit_of_the_next_mount_holds(union: Union) -> None:
    union.mount("size=1M")
    union.fill("new")
    union.umount()
    union.mount("size=2M")
    assert (1 << 20) - SLACK <= union.fill("new") <= (1 << 20) + SLACK
    union.umount()
    union.mount()
    (union.merged / "large").write_bytes(b"l" * (3 << 20))
    assert "size_limit" not in union.status()["union"]
    union.umount()
    union.mount("size=2M")
    assert union.available() == 0
    assert union.fill("more") == 0


@on_xfs
def test_unmount_leaves_nothing_beside_the_upper(union: Union) -> None:
    union.mount("size=1M")
    union.umount()
    assert sorted(os.listdir(union.upper.parent)) == ["lower", "merged", "upper"]


@on_xfs
def test_unions_have_projects_and_limits_of_their_own(union: Union, disk: Disk) -> None:
    union.mount("size=1M")
    other = disk.union()
    other.mount("size=2M")
    assert project_of(union.upper) != project_of(other.upper)
    union.fill("new")
    assert other.available() >= (2 << 20) - SLACK
    assert (2 << 20) - SLACK <= other.fill("new") <= 2 << 20
    other.umount()


@on_xfs
def test_upper_that_holds_something_is_accounted(union: Union) -> None:
    (union.upper / "old").write_bytes(b"o" * 1000)
    union.mount("size=1M")
    assert union.is_accounted()
    assert project_of(union.upper) == Project(0, inherits=False)


@on_xfs
def test_upper_in_the_project_of_somebody_else_is_accounted(union: Union) -> None:
    fd = os.open(union.upper.parent, os.O_RDONLY)
    set_project(fd, Project(7, inherits=True))
    os.close(fd)
    union.upper.rmdir()
    union.upper.mkdir()
    union.mount("size=1M")
    assert union.is_accounted()
    assert project_of(union.upper) == Project(7, inherits=True)


@on_xfs
def test_project_that_a_killed_mount_left_is_used(union: Union) -> None:
    work = union.upper.with_name("work")
    work.mkdir()
    project = claim(union.upper, work)
    assert project is not None
    project.close()
    assert claim(union.upper, work) is None
    union.mount("size=1M", f"workdir={work}")
    assert union.status()["union"]["size_project"] == project.id
    assert (1 << 20) - SLACK <= union.fill("new") <= 1 << 20


def test_nobody_leaves_the_project_from_inside(union: Union) -> None:
    merged = union.mount("size=1M")
    directory = os.open(merged / "dir", os.O_RDONLY)
    set_flags(directory, get_flags(directory) | FS_NODUMP_FL)  # of a lower directory, which has no project yet
    assert get_flags(directory) & FS_NODUMP_FL
    with pytest.raises(PermissionError):
        set_flags(directory, get_flags(directory) & ~FS_PROJINHERIT_FL)
    flags, *hints, project, cow = get_fsxattr(directory)
    with pytest.raises(PermissionError):
        set_fsxattr(directory, (flags, hints[0], hints[1], 0, cow))
    with pytest.raises(PermissionError):
        set_fsxattr(directory, (flags & ~FS_XFLAG_PROJINHERIT, hints[0], hints[1], project, cow))
    os.close(directory)
    assert project_of(union.upper / "dir") == project_of(union.upper)


@pytest.mark.parametrize("options", ["index=on", "userxattr,index=off"])
def test_after_a_snapshot_the_limit_is_that_of_the_new_upper(union: Union, options: str) -> None:
    merged = union.mount("size=4M", options)
    with (merged / "open").open("w+b", buffering=0) as file:
        file.write(b"o" * (1 << 20))
        union.fill("new")
        take_snapshot(merged, "one")
        assert LIMIT - SLACK <= union.available() <= LIMIT
        file.write(b"more")  # copies the file up
    os.rename(merged / "open", merged / "dir/renamed")
    room = LIMIT - (1 << 20)
    assert room - IN_ADVANCE[union.disk.kind] - SLACK <= union.fill("new two") <= room
    assert union.status()["union"]["size_used"] <= LIMIT
    content = (merged / "dir/renamed").read_bytes()
    assert content == b"o" * (1 << 20) + b"more"
    union.umount()
    union.mount("size=4M", options)
    assert (merged / "dir/renamed").read_bytes() == content
    assert union.fill("again") <= IN_ADVANCE[union.disk.kind] + SLACK
    assert union.status()["union"]["size_used"] <= LIMIT


@on_xfs
def test_room_of_a_removed_snapshot_is_not_given_to_the_upper(union: Union) -> None:
    merged = union.mount("size=4M")
    union.fill("new")
    take_snapshot(merged, "one")
    assert union.available() >= LIMIT - SLACK
    union.umount()
    rollback(union.upper, "one", discard=True)
    union.mount("size=4M")
    assert LIMIT - SLACK <= union.available() <= LIMIT
    assert LIMIT - SLACK <= union.fill("other") <= LIMIT


@on_xfs
def test_snapshot_that_is_refused_leaves_the_limit_as_it_was(union: Union) -> None:
    merged = union.mount("size=4M")
    (merged / "new").write_bytes(b"n" * (2 << 20))
    take_snapshot(merged, "one")
    with pytest.raises(MounterError, match="another snapshot has that name"):
        take_snapshot(merged, "one")
    assert union.fill("other") <= LIMIT
