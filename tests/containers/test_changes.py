"""`unionfs diff` of upper directories that the kernel's OverlayFS, or our own mount, has made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounts import DIRECT, KERNEL, USERXATTR, Backend
from unionfs.containers.changes import changes_by_origin, changes_of


class Union:
    """A union of two lowers, changed by the test while it is mounted."""

    def __init__(self, root: Path, backend: Backend, options: tuple[str, ...]) -> None:
        self.lowers = [root / "top", root / "base"]
        self.upper, self.work, self.merged = root / "upper", root / "work", root / "merged"
        self._backend, self._options = backend, options
        for directory in (*self.lowers, self.upper, self.work, self.merged):
            directory.mkdir()
        for name in ("etc/passwd", "etc/group", "deep/one/two/file", "file"):
            path = self.lowers[1] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        (self.lowers[0] / "etc").mkdir()
        (self.lowers[0] / "etc/top").write_text("top")

    def after(self, change: Callable[[Path], object]) -> list[str]:
        """The lines of the diff after ``change`` was made in the mount."""
        self._backend.mount(self.lowers, self.upper, self.work, self.merged, self._options)
        try:
            change(self.merged)
        finally:
            self._backend.umount(self.merged)
        return self.lines()

    def lines(self) -> list[str]:
        return [" ".join(change) for change in changes_of(self.upper, self.lowers, user=USERXATTR)]


@pytest.fixture(params=[DIRECT, KERNEL], ids=lambda backend: backend.name)
def union(request: pytest.FixtureRequest, tmp_path: Path) -> Union:
    return Union(tmp_path, request.param, ("redirect_dir=on",) if not USERXATTR else ())


def test_nothing_changed_is_nothing_printed(union: Union) -> None:
    assert union.after(lambda merged: (merged / "etc/passwd").read_text()) == []


def test_added_modified_and_deleted_files_with_their_directories(union: Union) -> None:
    def change(merged: Path) -> None:
        (merged / "etc/new").write_text("new")
        (merged / "etc/passwd").write_text("changed")
        (merged / "etc/group").unlink()

    assert union.after(change) == ["M /etc", "D /etc/group", "A /etc/new", "M /etc/passwd"]


def test_a_deleted_directory_is_one_line(union: Union) -> None:
    assert union.after(lambda merged: shutil.rmtree(merged / "deep")) == ["D /deep"]


def test_a_new_directory_names_everything_in_it(union: Union) -> None:
    def change(merged: Path) -> None:
        (merged / "new/sub").mkdir(parents=True)
        (merged / "new/sub/file").write_text("")

    assert union.after(change) == ["A /new", "A /new/sub", "A /new/sub/file"]


def test_a_file_that_was_made_anew_is_modified(union: Union) -> None:
    def change(merged: Path) -> None:
        (merged / "file").unlink()
        (merged / "file").write_text("anew")

    assert union.after(change) == ["M /file"]


def test_a_directory_that_was_made_anew_lists_what_is_gone_from_it(union: Union) -> None:
    def change(merged: Path) -> None:
        shutil.rmtree(merged / "etc")
        (merged / "etc").mkdir()
        (merged / "etc/passwd").write_text("anew")

    assert union.after(change) == ["M /etc", "D /etc/group", "M /etc/passwd", "D /etc/top"]


def test_only_the_changed_path_of_a_deep_tree_is_named(union: Union) -> None:
    assert union.after(lambda merged: (merged / "deep/one/two/file").write_text("x")) == [
        "M /deep",
        "M /deep/one",
        "M /deep/one/two",
        "M /deep/one/two/file",
    ]


def test_changed_mode_of_a_directory_is_a_change(union: Union) -> None:
    assert union.after(lambda merged: (merged / "etc").chmod(0o700)) == ["M /etc"]


def test_a_file_in_the_place_of_a_directory_is_modified(union: Union) -> None:
    def change(merged: Path) -> None:
        shutil.rmtree(merged / "deep")
        (merged / "deep").write_text("now a file")

    assert union.after(change) == ["M /deep"]


@pytest.mark.skipif(USERXATTR, reason="redirects need trusted.overlay.")
def test_a_moved_directory_is_added_with_all_it_holds_and_deleted_where_it_was(union: Union) -> None:
    def change(merged: Path) -> None:
        (merged / "deep").rename(merged / "moved")
        (merged / "moved/one/more").write_text("")

    assert union.after(change) == [
        "D /deep",
        "A /moved",
        "A /moved/one",
        "A /moved/one/more",
        "A /moved/one/two",
        "A /moved/one/two/file",
    ]


def test_a_whiteout_of_nothing_is_no_change(union: Union) -> None:
    os.mknod(union.upper / "never", 0o020000, 0)
    assert union.lines() == []


def test_whiteouts_of_fuse_overlayfs_are_deletions(union: Union) -> None:
    (union.upper / "etc").mkdir()
    shutil.copystat(union.lowers[0] / "etc", union.upper / "etc")
    (union.upper / "etc/.wh.group").touch()
    (union.upper / "deep").mkdir()
    (union.upper / "deep/.wh..wh..opq").touch()
    assert union.lines() == ["M /deep", "D /deep/one", "M /etc", "D /etc/group"]


def test_the_lowers_are_not_walked(union: Union, monkeypatch: pytest.MonkeyPatch) -> None:
    union.after(lambda merged: (merged / "etc/passwd").write_text("changed"))
    listed: list[object] = []
    real = os.listdir

    def listdir(path: int | str) -> list[str]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert union.lines() == ["M /etc", "M /etc/passwd"]
    assert all(isinstance(path, int) for path in listed), "lowers are listed by path, the upper by descriptor"


def test_without_lowers_what_was_copied_up_is_modified(union: Union) -> None:
    def change(merged: Path) -> None:
        (merged / "etc/new").write_text("new")
        with (merged / "etc/passwd").open("a") as file:
            file.write("more")
        (merged / "etc/group").unlink()

    union.after(change)
    lines = [" ".join(change) for change in changes_by_origin(union.upper, user=USERXATTR)]
    assert lines == ["M /etc", "D /etc/group", "A /etc/new", "M /etc/passwd"]
