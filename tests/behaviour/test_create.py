"""New objects: of every kind, with the caller's umask, set-gid directories and default ACLs honoured."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from . import acl
from .layers import FIFO, OPAQUE, WHITEOUT, Dir, Symlink
from .process import in_child
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers

MAKERS: dict[str, Callable[[str], object]] = {
    "file": lambda name: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)),
    "directory": lambda name: os.mkdir(name, 0o777),
    "fifo": lambda name: os.mknod(name, stat.S_IFIFO | 0o666),
    "socket": lambda name: os.mknod(name, stat.S_IFSOCK | 0o666),
    "char": lambda name: os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "block": lambda name: os.mknod(name, stat.S_IFBLK | 0o666, os.makedev(7, 300)),
    "mknod file": lambda name: os.mknod(name, stat.S_IFREG | 0o666),
}
KINDS = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "mknod file": stat.S_IFREG,
}
by_kind = pytest.mark.parametrize("kind", MAKERS)


@by_kind
@layers({"d/old": b""})
def test_new_object_lands_in_the_upper(union: Union, kind: str) -> None:
    MAKERS[kind](os.fspath(union.merged / "d/new"))
    shown, real = (union.merged / "d/new").lstat(), (union.upper / "d/new").lstat()
    assert stat.S_IFMT(shown.st_mode) == KINDS[kind]
    assert (shown.st_mode, shown.st_rdev, shown.st_size) == (real.st_mode, real.st_rdev, real.st_size)
    assert (shown.st_uid, shown.st_gid) == (0, 0)
    assert union.names("d") == ["new", "old"]


@by_kind
@layers({"new": b"old"}, upper={"new": WHITEOUT})
def test_new_object_replaces_a_whiteout(union: Union, kind: str) -> None:
    MAKERS[kind](os.fspath(union.merged / "new"))
    assert stat.S_IFMT((union.upper / "new").lstat().st_mode) == KINDS[kind]
    assert union.names() == ["new"]


@by_kind
@pytest.mark.parametrize("umask", [0o077, 0o022, 0])
@layers({"d": Dir()})
def test_umask_of_the_caller_is_honoured(union: Union, kind: str, umask: int) -> None:
    in_child(lambda: MAKERS[kind]("new"), cwd=union.merged / "d", umask=umask)
    wanted = (0o777 if kind == "directory" else 0o666) & ~umask
    assert stat.S_IMODE((union.merged / "d/new").lstat().st_mode) == wanted
    assert stat.S_IMODE((union.upper / "d/new").lstat().st_mode) == wanted


@pytest.mark.parametrize("umask", [0o077, 0])
def test_symlink_has_all_permissions_whatever_the_umask(union: Union, umask: int) -> None:
    in_child(lambda: os.symlink("target", "link"), cwd=union.merged, umask=umask)
    assert (union.merged / "link").lstat().st_mode == stat.S_IFLNK | 0o777
    assert os.readlink(union.upper / "link") == "target"


@by_kind
@layers({"d": Dir(mode=0o2775, gid=1234)})
def test_new_object_in_a_set_gid_directory_has_its_group(union: Union, kind: str) -> None:
    MAKERS[kind](os.fspath(union.merged / "d/new"))
    status = (union.merged / "d/new").lstat()
    assert status.st_gid == 1234
    assert bool(status.st_mode & stat.S_ISGID) == (kind == "directory")
    assert (union.upper / "d/new").lstat().st_mode == status.st_mode


DEFAULT_ACL = acl.with_user(owner=7, uid=1234, permission=6, group=5, mask=7, other=0)


@by_kind
@layers({"d": Dir(xattrs={acl.DEFAULT: DEFAULT_ACL})})
def test_default_acl_is_inherited_and_the_umask_ignored(union: Union, kind: str) -> None:
    in_child(lambda: MAKERS[kind]("new"), cwd=union.merged / "d", umask=0o077)
    # acl(5): the ACL of the new object is the default ACL, cut down by the mode of the call (0666 or 0777).
    mode = 0o770 if kind == "directory" else 0o660
    inherited = DEFAULT_ACL if kind == "directory" else acl.with_user(owner=6, uid=1234, permission=6, group=5, mask=6, other=0)
    for path in (union.merged / "d/new", union.upper / "d/new"):
        assert stat.S_IMODE(path.lstat().st_mode) == mode
        assert os.getxattr(path, acl.ACCESS) == inherited
    if kind == "directory":
        assert os.getxattr(union.merged / "d/new", acl.DEFAULT) == DEFAULT_ACL
    else:
        with fails_with(errno.ENODATA):
            os.getxattr(union.merged / "d/new", acl.DEFAULT)


def test_mode_of_the_call_may_have_set_id_and_sticky_bits(union: Union) -> None:
    os.close(os.open(union.merged / "f", os.O_CREAT | os.O_WRONLY, 0o6755))
    (union.merged / "d").mkdir(0o1755)
    assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o6755
    assert stat.S_IMODE((union.merged / "d").stat().st_mode) == 0o1755


@layers({"f": b"old", "d": Dir(), "link": Symlink("nowhere"), "fifo": FIFO})
@pytest.mark.parametrize("name", ["f", "d", "link", "fifo"])
def test_existing_name_is_eexist_for_every_maker(union: Union, name: str) -> None:
    makers: dict[str, Callable[[Path], object]] = {
        "O_EXCL": lambda path: os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        "mkdir": lambda path: path.mkdir(),
        "mknod": lambda path: os.mknod(path, stat.S_IFIFO),
        "symlink": lambda path: path.symlink_to("x"),
        "link": lambda path: os.link(union.merged / "f", path),
    }
    for maker, make in makers.items():
        with fails_with(errno.EEXIST):
            make(union.merged / name)
            pytest.fail(f"{maker} succeeded")
    assert not union.is_copied_up(name) or name == "f"


@layers({"f": b"old"})
def test_open_with_creat_opens_what_exists(union: Union) -> None:
    with opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as fd:
        assert os.read(fd, 10) == b"old"


@layers({"link": Symlink("made")})
def test_open_with_creat_through_a_dangling_symlink_makes_the_target(union: Union) -> None:
    (union.merged / "link").write_bytes(b"x")
    assert union.names() == ["link", "made"]
    assert (union.upper / "made").read_bytes() == b"x"


def test_new_file_can_be_written_through_a_descriptor_that_its_mode_forbids(union: Union) -> None:
    with opened(union.merged / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o400) as fd:
        os.write(fd, b"data")
        assert os.pread(fd, 10, 0) == b"data"
    assert (union.upper / "f").read_bytes() == b"data"


def test_new_directory_is_empty_and_has_fresh_times(union: Union) -> None:
    (union.merged / "d").mkdir()
    assert union.names("d") == []
    assert (union.merged / "d").stat().st_mtime_ns == (union.upper / "d").stat().st_mtime_ns


@layers({"d/old": b""}, upper={"d": WHITEOUT})
def test_mkdir_over_a_whiteout_is_opaque(union: Union) -> None:
    (union.merged / "d").mkdir()
    assert union.names("d") == []
    assert union.is_opaque("d")


@layers(upper={"d": OPAQUE})
def test_mkdir_in_an_opaque_directory(union: Union) -> None:
    (union.merged / "d/e/f").mkdir(parents=True)
    (union.merged / "d/e/f/g").write_bytes(b"x")
    assert (union.upper / "d/e/f/g").read_bytes() == b"x"


def test_mknod_of_a_whiteout_device_is_refused(union: Union) -> None:
    with fails_with(errno.EPERM):
        os.mknod(union.merged / "w", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    assert union.names() == []


def test_symlink_targets_are_kept_byte_for_byte(union: Union) -> None:
    for number, target in enumerate([b"a", b"/abs/../x", b"with space\n", b"\xff\xfe", b"t" * 4095]):
        os.symlink(target, os.fsencode(union.merged / f"l{number}"))
        assert os.readlink(os.fsencode(union.merged / f"l{number}")) == target
        assert (union.merged / f"l{number}").lstat().st_size == len(target)
