"""What one mount leaves on disk, the next one shows: a new server of the same backend, the kernel after ours, ours after it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.mounts import KERNEL, OURS, OVERLAY_XATTRS, Backend
from unionfs.check import Directories, check

from . import acl
from .layers import FIFO, WHITEOUT, Dir, File, Special, Symlink, Tree, make_special
from .syscalls import RENAME_EXCHANGE, renameat2
from .tree import Snapshot, differences
from .union import Union

layers = pytest.mark.layers

TOP: Tree = {
    "etc/passwd": b"root\n",
    "etc/shadow": File(b"secret", mode=0o600, xattrs={"user.x": b"1", acl.ACCESS: acl.with_user(6, 1234, 4, 0, 4, 0)}),
    "etc/old.conf": b"old",
    "etc/gone": WHITEOUT,
    "bin/tool": File(b"#!/bin/sh\n", mode=0o6755, uid=3, gid=4),
    "bin/link": Symlink("tool"),
    "var/log/a": b"a" * 5000,
    "var/log/b": b"b",
    "var/empty": Dir(mode=0o1777),
    "replaced/by/file": b"",
    "file-to-dir": b"",
    "both/top": b"",
    b"na\xffme": b"bytes",
}
BOTTOM: Tree = {
    "etc/gone": b"gone",
    "etc/hosts": b"localhost\n",
    "both/bottom": b"",
    "dev/null": Special(stat.S_IFCHR, os.makedev(1, 3), mode=0o666),
    "dev/fifo": FIFO,
    "usr/share/doc/x": b"doc",
}


def change_everything(top: Path) -> None:
    """One of every kind of change."""
    (top / "etc/passwd").write_bytes(b"root\nuser\n")
    os.chmod(top / "etc/shadow", 0o640)
    (top / "etc/old.conf").unlink()
    (top / "etc/new.conf").write_bytes(b"new")
    os.setxattr(top / "etc/hosts", "user.added", b"value")
    (top / "etc/hosts").rename(top / "etc/hosts.bak")
    os.chown(top / "bin/link", 9, 9, follow_symlinks=False)
    os.link(top / "bin/tool", top / "bin/hard")
    (top / "var/log/a").rename(top / "var/log/b")
    (top / "var/empty").rmdir()
    (top / "var/empty").mkdir()
    (top / "var/made/deep/er").mkdir(parents=True)
    (top / "var/made/deep/er/f").write_bytes(b"f")
    (top / "var/made").rename(top / "var/moved")
    os.utime(top / "var/moved/deep", ns=(1, 1_234_567_890))
    (top / "replaced/by/file").unlink()
    (top / "replaced/by").rmdir()
    (top / "replaced").rmdir()
    (top / "replaced").write_bytes(b"now a file")
    (top / "file-to-dir").unlink()
    (top / "file-to-dir").mkdir()
    (top / "file-to-dir/inner").symlink_to("../bin/tool")
    (top / "both/bottom").unlink()
    (top / "dev/fifo").rename(top / "dev/pipe")
    make_special(top / "dev/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    renameat2(top / "etc/new.conf", top / "usr/share/doc/x", RENAME_EXCHANGE)
    os.setxattr(top / "var", OVERLAY_XATTRS + "opaque", b"y")
    os.unlink(os.fsencode(top) + b"/na\xffme")


def move_directories(top: Path) -> None:
    """Renames of directories with lower parts, into and out of each other; `undo_some` may follow."""
    (top / "dev").rename(top / "usr/dev")
    (top / "usr/share").rename(top / "share")
    (top / "usr").rename(top / "share/usr")
    (top / "share/usr/dev").rename(top / "dev")
    (top / "share/usr").rename(top / "usr")
    (top / "share").rename(top / "usr/share")


def undo_some(top: Path) -> None:
    """Changes on top of `change_everything`, by another server: removing what was made, making what was removed."""
    (top / "etc/old.conf").write_bytes(b"back")
    (top / "both/bottom").mkdir()
    (top / "replaced").unlink()
    (top / "replaced").mkdir()
    (top / "bin/hard").write_bytes(b"through the link")
    (top / "file-to-dir/inner").unlink()
    (top / "file-to-dir").rmdir()
    (top / "var/moved/deep").rename(top / "var/deep")
    (top / "etc/hosts.bak").rename(top / "etc/hosts")
    os.chmod(top / "usr/share", 0o700)


@layers([TOP, BOTTOM])
def test_remount_shows_the_same_tree(own_union: Union) -> None:
    change_everything(own_union.merged)
    before = Snapshot.of(own_union.merged)
    own_union.remount()
    assert differences(before, Snapshot.of(own_union.merged)) == []
    undo_some(own_union.merged)
    before = Snapshot.of(own_union.merged)
    own_union.remount()
    assert differences(before, Snapshot.of(own_union.merged)) == []


@layers([TOP, BOTTOM])
def test_st_ino_is_the_same_after_remount(own_union: Union) -> None:
    os.chmod(own_union.merged / "etc/passwd", 0o600)
    (own_union.merged / "var/log/a").write_bytes(b"new")
    (own_union.merged / "etc/hosts").rename(own_union.merged / "etc/hosts.bak")
    before = {path: path.lstat().st_ino for path in own_union.merged.rglob("*")}
    own_union.remount()
    assert {path: path.lstat().st_ino for path in own_union.merged.rglob("*")} == before


@layers({"old": b"old"})
def test_mtime_of_files_just_written_is_the_same_after_remount(own_union: Union) -> None:
    """A kernel that caches writes shows a time of its own until it tells the server; both must end up the same."""
    for number in range(10):
        (own_union.merged / f"new{number}").write_bytes(b"data")
    (own_union.merged / "old").write_bytes(b"new")
    before = {path.name: path.stat().st_mtime_ns for path in own_union.merged.iterdir()}
    own_union.remount()
    assert {path.name: path.stat().st_mtime_ns for path in own_union.merged.iterdir()} == before


@layers([TOP, BOTTOM])
def test_upper_made_by_one_backend_is_the_same_to_all_others(own_union: Union) -> None:
    first = own_union.backend
    change_everything(own_union.merged)
    before = Snapshot.of(own_union.merged)
    for other in (KERNEL, *OURS):
        own_union.remount(other)
        assert differences(before, Snapshot.of(own_union.merged)) == [], f"made by {first.name}, seen by {other.name}"


@layers([TOP, BOTTOM])
@pytest.mark.parametrize("other", [KERNEL, OURS[0]], ids=lambda backend: f"then {backend.name}")
def test_upper_made_by_one_backend_is_changed_further_by_another(own_union: Union, other: Backend) -> None:
    first = own_union.backend
    change_everything(own_union.merged)
    own_union.remount(other)
    undo_some(own_union.merged)
    before = Snapshot.of(own_union.merged)
    own_union.remount(first)
    assert differences(before, Snapshot.of(own_union.merged)) == []
    assert own_union.names("replaced") == []
    assert own_union.names("both") == ["bottom", "top"]
    assert (own_union.merged / "bin/tool").read_bytes() == b"through the link"


@layers([TOP, BOTTOM])
@pytest.mark.mount_options("redirect_dir=on")
def test_upper_after_all_kinds_of_changes_is_clean(own_union: Union) -> None:
    mounted = own_union.mounted
    directories = Directories(mounted.upper, mounted.work, tuple(mounted.lowers))
    for change in (change_everything, move_directories, undo_some):
        change(own_union.merged)
        mounted.umount()
        assert [outcome for outcome in check(directories) if outcome.is_left] == []
        mounted.mount()


@layers([TOP, BOTTOM])
def test_same_changes_give_the_same_tree_as_on_a_plain_copy(own_union: Union, tmp_path: Path) -> None:
    """The plain filesystem as a second oracle, for what the view is like as a whole."""
    plain = tmp_path / "plain"
    plain.mkdir()
    copy_tree(own_union.merged, plain)
    for top in (own_union.merged, plain):
        change_everything(top)
        undo_some(top)
    # mtimes of what was changed now differ by when it was done.
    differing = [line for line in differences(Snapshot.of(plain), Snapshot.of(own_union.merged)) if ": mtime_ns " not in line]
    assert differing == []


def copy_tree(source: Path, target: Path) -> None:
    """All of ``source`` into the directory ``target``, by tar: with owners, xattrs, devices."""
    pack = ["tar", "--create", "--xattrs", "--xattrs-include=*", "--acls", "-C", source, "."]
    unpack = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "-p", "-C", target]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
        subprocess.run(unpack, stdin=packing.stdout, check=True)
    assert packing.returncode == 0
