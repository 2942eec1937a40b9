"""Whole mounts: many lowers, no upper, one lower, and the root of the union."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounts import KERNEL, Backend, MountFailedError

from .layers import WHITEOUT, Dir, File, Symlink, Tree, build
from .syscalls import fails_with
from .tree import Snapshot, differences
from .union import Layers, Mounted, Union

layers = pytest.mark.layers


@layers([{f"only{n}": b"", f"dir/{n}": b"%d" % n, "same": b"%d" % n} for n in range(500)])
def test_five_hundred_lowers(own_union: Union) -> None:
    assert len(own_union.names("dir")) == 500
    assert len(own_union.names()) == 502
    assert (own_union.merged / "same").read_bytes() == b"0"
    assert (own_union.merged / "only499").exists()
    assert (own_union.merged / "dir/499").read_bytes() == b"499"
    (own_union.merged / "dir/499").write_bytes(b"new")
    assert (own_union.upper / "dir/499").read_bytes() == b"new"


CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda merged: (merged / "new").touch(),
    "open for writing": lambda merged: os.open(merged / "d/1", os.O_WRONLY),
    "truncate": lambda merged: os.truncate(merged / "d/1", 0),
    "mkdir": lambda merged: (merged / "new").mkdir(),
    "mknod": lambda merged: os.mknod(merged / "new", stat.S_IFIFO),
    "unlink": lambda merged: (merged / "d/1").unlink(),
    "rmdir": lambda merged: (merged / "empty").rmdir(),
    "rename": lambda merged: (merged / "d/1").rename(merged / "new"),
    "chmod": lambda merged: (merged / "d/1").chmod(0o600),
    "chown": lambda merged: os.chown(merged / "d/1", 1, 1),
    "utimes": lambda merged: os.utime(merged / "d/1", ns=(0, 0)),
    "setxattr": lambda merged: os.setxattr(merged / "d/1", "user.x", b""),
    "removexattr": lambda merged: os.removexattr(merged / "d/1", "user.x"),
    "link": lambda merged: (merged / "new").hardlink_to(merged / "d/1"),
    "symlink": lambda merged: (merged / "new").symlink_to("x"),
}


def assert_every_change_is_erofs(merged: Path) -> None:
    for name, change in CHANGES.items():
        with fails_with(errno.EROFS):
            change(merged)
            pytest.fail(f"{name} succeeded")


READ_ONLY_LAYERS = [{"d/1": b"one", "x": WHITEOUT}, {"d/2": b"", "x": b"gone", "empty": Dir()}]


@layers(READ_ONLY_LAYERS, read_only=True)
def test_union_without_upper_shows_the_merge_and_refuses_every_change(own_union: Union) -> None:
    assert own_union.names() == ["d", "empty"]
    assert own_union.names("d") == ["1", "2"]
    assert (own_union.merged / "d/1").read_bytes() == b"one"
    assert_every_change_is_erofs(own_union.merged)
    assert os.statvfs(own_union.merged).f_flag & os.ST_RDONLY


@layers(READ_ONLY_LAYERS)
@pytest.mark.mount_options("ro")
def test_union_mounted_ro_refuses_every_change(own_union: Union) -> None:
    assert (own_union.merged / "d/1").read_bytes() == b"one"
    assert_every_change_is_erofs(own_union.merged)
    assert os.listdir(own_union.upper) == []


def test_single_lower_without_upper(backend: Backend, tmp_path: Path) -> None:
    mounted = Mounted(backend, tmp_path, lower_count=1, read_only=True)
    build(mounted.lowers[0], {"f": b"data"})
    union = Union(mounted, mounted.merged, mounted.upper, mounted.lowers)
    if union.deviates("single-lower-read-only", kernel=False, ours=True):
        mounted.mount()
        assert (mounted.merged / "f").read_bytes() == b"data"
        mounted.umount()
    else:
        with pytest.raises(MountFailedError):
            mounted.mount()


def test_layers_on_different_filesystems(backend: Backend, tmp_path: Path) -> None:
    mounted = Mounted(backend, tmp_path, lower_count=2)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted.lowers[1]], check=True)
    trees = [{"d/near": b"1"}, {"d/far": File(b"2" * 100_000, uid=7, xattrs={"trusted.x": b"y"}), "d/link": Symlink("far")}]
    union = Union.in_mount(mounted, Layers.of_marker(trees))
    mounted.mount()
    try:
        with (mounted.merged / "d/far").open("ab") as file:
            file.write(b"+")
        (mounted.merged / "d/link").rename(mounted.merged / "d/moved")
        assert union.names("d") == ["far", "moved", "near"]
        assert (mounted.upper / "d/far").read_bytes() == b"2" * 100_000 + b"+"
        assert os.getxattr(mounted.merged / "d/far", "trusted.x") == b"y"
        status = [path.lstat() for path in mounted.merged.rglob("*")]
        assert len({(each.st_dev, each.st_ino) for each in status}) == 4
        uniform = len({each.st_dev for each in status}) == 1
        assert uniform == union.deviates("uniform-st-dev", kernel=False, ours=True)
        assert union.changed_in_lowers() == []
    finally:
        mounted.umount()
        subprocess.run(["umount", mounted.lowers[1]], check=True)


@layers([{".": Dir(mode=0o1711, uid=7, gid=8), "f": b""}, {"g": b""}], upper={".": Dir(mode=0o2750, uid=5, gid=6)})
def test_root_has_the_attributes_of_the_upper_root(own_union: Union) -> None:
    status = own_union.merged.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o2750, 5, 6)
    own_union.merged.chmod(0o711)
    assert stat.S_IMODE(own_union.upper.stat().st_mode) == 0o711


@layers({"old": b""})
def test_names_made_and_removed_in_the_root(own_union: Union) -> None:
    (own_union.merged / "new").write_bytes(b"x")
    (own_union.merged / "old").unlink()
    assert own_union.names() == ["new"]
    assert own_union.has_whiteout("old")
    own_union.remount()
    assert own_union.names() == ["new"]


@layers([{"d/f": b"lower", "d/g": b"g"}, {"d/deep": b"deep"}])
def test_kernel_overlay_lies_on_it_and_leaves_it_alone(own_union: Union, tmp_path: Path) -> None:
    """fuse-overlayfs 2.0 takes the last level of stacking with its passthrough, so that nothing may lie on it."""
    (own_union.merged / "d/g").write_bytes(b"changed below")
    before = Snapshot.of(own_union.merged)
    upper, work, merged, other = (tmp_path / name for name in ("above-upper", "above-work", "above", "other"))
    for directory in (upper, work, merged, other):
        directory.mkdir()
    KERNEL.mount([own_union.merged, other], upper, work, merged)
    try:
        assert {path.name: path.read_bytes() for path in (merged / "d").iterdir()} == {
            "f": b"lower",
            "g": b"changed below",
            "deep": b"deep",
        }
        with (merged / "d/f").open("ab") as file:
            file.write(b" and more")
        (merged / "d/deep").unlink()
        assert (merged / "d/f").read_bytes() == b"lower and more"
        assert sorted(os.listdir(merged / "d")) == ["f", "g"]
    finally:
        KERNEL.umount(merged)
    assert differences(before, Snapshot.of(own_union.merged)) == []


LEFTOVERS: Tree = {
    **{f"work/{name}": File(b"x" * 100_000, mode=0) for name in ("#1", "#2", "#4", "#5", "#a", "1", "2", "3", "4")},
    "work/#3/file": b"x",
    "work/#6": Symlink("/etc/passwd"),
}


@layers({"f": b"lower", "d/g": File(b"g", mode=0o600), "link": Symlink("f")})
def test_what_a_crash_left_in_the_work_directory_gets_into_no_file(own_union: Union) -> None:
    """fuse-overlayfs 2.0 goes on in files that it finds there, so that a copied-up one ends in what was in them."""
    mounted = own_union.mounted
    mounted.umount()
    build(mounted.work, LEFTOVERS)
    mounted.mount()
    (own_union.merged / "f").chmod(0o640)
    (own_union.merged / "d/g").open("ab").close()
    os.utime(own_union.merged / "link", ns=(1, 1), follow_symlinks=False)
    (own_union.merged / "new").write_bytes(b"new")
    (own_union.merged / "made").mkdir()
    assert (own_union.merged / "f").read_bytes() == b"lower"
    assert (own_union.merged / "d/g").read_bytes() == b"g"
    assert (own_union.merged / "new").read_bytes() == b"new"
    assert (own_union.upper / "f").read_bytes() == b"lower"
    assert (own_union.merged / "link").readlink() == Path("f")
    assert own_union.names() == ["d", "f", "link", "made", "new"]
    assert os.listdir(mounted.work / "work") == []


@layers({"f": b"data"})
def test_statfs_is_that_of_the_upper(own_union: Union) -> None:
    shown, real = os.statvfs(own_union.merged), os.statvfs(own_union.upper)
    assert (shown.f_frsize, shown.f_blocks, shown.f_files, shown.f_namemax) == (
        real.f_frsize,
        real.f_blocks,
        real.f_files,
        real.f_namemax,
    )


@layers({"f": b"data"})
@pytest.mark.mount_options("nosuid", "nodev", "noexec")
def test_mount_options_show_and_work(own_union: Union) -> None:
    flags = os.statvfs(own_union.merged).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    assert flags & os.ST_NOEXEC
    os.mknod(own_union.merged / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with fails_with(errno.EACCES):
        os.open(own_union.merged / "null", os.O_RDONLY)
