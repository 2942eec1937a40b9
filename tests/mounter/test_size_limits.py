"""Who keeps a size limit on a filesystem that has project IDs but no quotas; and an upper that has got a project elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import MountFailedError, run_unionfs
from unionfs.linux.project_quota import Project, Usage, get_project, set_project
from unionfs.overlay import upper_project
from unionfs.overlay.upper_project import IDS, claim, found


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("xfs")
    image, top = directory / "image", directory / "mounted"
    top.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, top], check=True, timeout=60)
    yield top
    subprocess.run(["umount", top], check=True, timeout=60)


class Directories:
    """Those of one union."""

    def __init__(self, top: Path) -> None:
        self.lower, self.upper, self.merged = (top / name for name in ("lower", "upper", "merged"))
        for directory in (self.lower / "dir", self.upper, self.merged):
            directory.mkdir(parents=True)
        (self.lower / "file").write_bytes(b"l" * 100_000)
        (self.lower / "link").symlink_to("file")

    def mount(self, *arguments: str) -> None:
        run_unionfs(["mount", *arguments, "-l", self.lower, "-u", self.upper, self.merged])


@pytest.fixture
def union(disk: Path, request: pytest.FixtureRequest) -> Iterator[Directories]:
    union = Directories(disk / request.node.name)
    yield union
    if os.path.ismount(union.merged):
        run_unionfs(["umount", union.merged])


def give(directory: Path, project: Project) -> None:
    fd = os.open(directory, os.O_RDONLY)
    set_project(fd, project)
    os.close(fd)


def project_of(directory: Path) -> Project:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return get_project(fd)
    finally:
        os.close(fd)


def test_limit_is_accounted_where_no_quotas_are_kept(union: Directories) -> None:
    union.mount("--size", "1M")
    assert "accounted, " in run_unionfs(["status", union.merged])
    with pytest.raises(OSError, match="No space"):
        (union.merged / "new").write_bytes(b"n" * (2 << 20))
    assert project_of(union.upper) == Project(0, inherits=False)


def test_passthrough_is_refused_where_the_daemon_has_to_count(union: Directories) -> None:
    with pytest.raises(MountFailedError, match="data_path=passthrough: not possible with size here"):
        union.mount("--size", "1M", "--data-path", "passthrough")
    assert sorted(os.listdir(union.upper.parent)) == ["lower", "merged", "upper"]


@pytest.mark.parametrize("arguments", [(), ("--size", "8M"), ("-o", "userxattr")], ids=["no limit", "accounted", "userxattr"])
def test_upper_with_a_project_of_ours_works_in_every_way(union: Directories, arguments: tuple[str, ...]) -> None:
    own = Project(IDS[7], inherits=True)
    give(union.upper, own)
    union.mount(*arguments)
    merged = union.merged
    with (merged / "open").open("w+b", buffering=0) as file:
        file.write(b"before")
        with (merged / "file").open("ab") as copied_up:
            copied_up.write(b"more")
        os.link(merged / "file", merged / "dir/second")
        os.rename(merged / "link", merged / "dir/link")
        run_unionfs(["snapshot", merged, "one"])
        file.write(b" and after")
        os.rename(merged / "open", merged / "dir/renamed")
        os.rename(merged / "dir/link", merged / "link")
        os.link(merged / "dir/renamed", merged / "third")
    run_unionfs(["umount", merged])
    union.mount(*arguments)
    assert (merged / "third").read_bytes() == b"before and after"
    assert (merged / "dir/second").read_bytes() == b"l" * 100_000 + b"more"
    assert project_of(union.upper) == own
    frozen = union.upper.with_name(".upper.snapshots") / "1/layer"
    assert project_of(frozen) == own
    assert (frozen / "open").read_bytes().startswith(b"before")


def test_project_by_descent_is_not_taken_for_ours(union: Directories) -> None:
    give(union.upper.parent, Project(IDS[1], inherits=True))
    below = union.upper.parent / "below"
    below.mkdir()
    assert project_of(below) == Project(IDS[1], inherits=True)
    assert found(below) is None


def test_id_that_any_file_has_is_passed_over(union: Directories, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that somebody else takes between the look and the taking."""
    asked: list[int] = []
    answers = [5, 0, 2, 0, 1]

    def usage(_fd: int, project: int) -> Usage:
        asked.append(project)
        return Usage(0, answers[len(asked) - 1], 0)

    monkeypatch.setattr(upper_project, "has_project_quota", lambda _fd: True)
    monkeypatch.setattr(upper_project, "get_usage", usage)
    work = union.upper.with_name("work")
    work.mkdir()
    project = claim(union.upper, work)
    assert project is not None
    assert asked == [asked[0], asked[1], asked[1], project.id, project.id]
    assert len(set(asked)) == 3
    assert set(asked) <= set(IDS)
    assert project_of(union.upper) == Project(project.id, inherits=True)
    project.close()


@pytest.mark.parametrize("name", ["upper/old", "work/index/of another upper", ".upper.snapshots/1"])
def test_no_project_is_given_to_what_holds_something(union: Directories, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upper_project, "has_project_quota", lambda _fd: True)
    work = union.upper.with_name("work")
    work.mkdir()
    (union.upper.parent / name).mkdir(parents=True)
    assert claim(union.upper, work) is None
    assert project_of(union.upper) == Project(0, inherits=False)
