"""Callers without privileges: what is refused to them, and whose the things are that they make."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from . import acl
from .layers import Dir, File, Special
from .process import in_child
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers

USER, OTHER, GROUP = 4001, 4002, 4100
OPEN = Dir(mode=0o777)


def refused(call: Callable[[], object]) -> int:
    """The errno with which ``call`` fails, 0 if it does not."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


@layers(
    {
        ".": OPEN,
        "secret": File(b"x", mode=0o600),
        "readable": File(b"x", mode=0o644),
        "closed": Dir(mode=0o700),
        "closed/f": b"",
        "unwritable": Dir(mode=0o755),
        "unwritable/f": File(mode=0o666),
        "group": File(b"x", mode=0o640, gid=GROUP),
        "acl": File(b"x", xattrs={acl.ACCESS: acl.with_user(owner=6, uid=USER, permission=4, group=0, mask=4, other=0)}),
    }
)
@pytest.mark.parametrize("copied_up", [False, True], ids=["lower", "copied up"])
def test_permissions_are_checked(union: Union, copied_up: bool) -> None:
    if copied_up:
        for path in [union.merged, *union.merged.rglob("*")]:
            os.utime(path)
    cases: dict[str, tuple[Callable[[], object], int]] = {
        "read secret": (lambda: os.open("secret", os.O_RDONLY), errno.EACCES),
        "read readable": (lambda: os.open("readable", os.O_RDONLY), 0),
        "write readable": (lambda: os.open("readable", os.O_WRONLY), errno.EACCES),
        "truncate readable": (lambda: os.truncate("readable", 0), errno.EACCES),
        "list closed": (lambda: os.listdir("closed"), errno.EACCES),
        "stat in closed": (lambda: os.stat("closed/f"), errno.EACCES),
        "create in unwritable": (lambda: os.mkdir("unwritable/new"), errno.EACCES),
        "unlink in unwritable": (lambda: os.unlink("unwritable/f"), errno.EACCES),
        "rename in unwritable": (lambda: os.rename("unwritable/f", "unwritable/g"), errno.EACCES),
        "write in unwritable": (lambda: os.open("unwritable/f", os.O_WRONLY), 0),
        "chmod": (lambda: Path("readable").chmod(0o777), errno.EPERM),
        "chown": (lambda: os.chown("readable", USER, -1), errno.EPERM),
        "utimes": (lambda: os.utime("readable", ns=(0, 0)), errno.EPERM),
        "setxattr": (lambda: os.setxattr("readable", "user.x", b""), errno.EACCES),
        "trusted xattr": (lambda: os.setxattr("unwritable/f", "trusted.x", b""), errno.EPERM),
        "group without it": (lambda: os.open("group", os.O_RDONLY), errno.EACCES),
        "named in an ACL": (lambda: os.open("acl", os.O_RDONLY), 0),
        "write by ACL": (lambda: os.open("acl", os.O_WRONLY), errno.EACCES),
        "device": (lambda: os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3)), errno.EPERM),
    }
    found = in_child(lambda: {name: refused(call) for name, (call, _) in cases.items()}, cwd=union.merged, uid=USER, gid=USER)
    assert found == {name: number for name, (_, number) in cases.items()}
    in_group = in_child(
        lambda: refused(lambda: os.open("group", os.O_RDONLY)), cwd=union.merged, uid=USER, gid=USER, groups=[GROUP]
    )
    assert in_group == 0


@layers({".": OPEN})
def test_new_objects_belong_to_the_caller(union: Union) -> None:
    def make() -> None:
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
        os.mkdir("directory")
        os.symlink("x", "link")
        os.mknod("fifo", stat.S_IFIFO | 0o644)
        os.mkdir("directory/deeper")

    in_child(make, cwd=union.merged, uid=USER, gid=GROUP)
    for name in ("file", "directory", "link", "fifo", "directory/deeper"):
        for path in (union.merged / name, union.upper / name):
            assert (path.lstat().st_uid, path.lstat().st_gid) == (USER, GROUP), path


@layers({"mine": File(b"data", mode=0o644, uid=USER, gid=GROUP), "dir": Dir(mode=0o755, uid=USER), "dir/f": File(b"root's")})
def test_owner_may_change_and_copy_up_its_lower_objects(union: Union) -> None:
    def change() -> None:
        os.chmod("mine", 0o600)
        with open("mine", "ab") as file:
            file.write(b"+")
        os.utime("mine", ns=(1, 2))
        os.setxattr("mine", "user.x", b"1")
        os.rename("dir/f", "dir/g")
        os.unlink("dir/g")

    in_child(change, cwd=union.merged, uid=USER, gid=GROUP)
    status = (union.upper / "mine").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (USER, GROUP, 0o600)
    assert (union.merged / "mine").read_bytes() == b"data+"
    assert union.names("dir") == []
    assert (union.upper / "dir").stat().st_uid == USER


@layers({"d": Dir(mode=0o755, uid=USER), "d/sub": Dir(uid=USER), "d/sub/f": File(b"x", uid=USER)})
def test_unprivileged_copy_up_keeps_the_owners_of_parents(union: Union) -> None:
    in_child(lambda: os.chmod("d/sub/f", 0o600), cwd=union.merged, uid=USER, gid=GROUP)
    # The root of the case and everything above is root's still.
    assert union.upper.stat().st_uid == 0
    assert (union.upper / "d/sub").stat().st_uid == USER
    assert (union.upper / "d/sub").stat().st_gid == 0


@layers(
    {
        "tmp": Dir(mode=0o1777),
        "tmp/mine": File(b"", uid=USER, mode=0o666),
        "tmp/other": File(b"", uid=OTHER, mode=0o666),
        "tmp/otherdir": Dir(uid=OTHER, mode=0o777),
    }
)
def test_sticky_directory_protects_what_others_own(union: Union) -> None:
    def attempt() -> list[int]:
        return [
            refused(lambda: os.unlink("tmp/other")),
            refused(lambda: os.rename("tmp/other", "tmp/stolen")),
            refused(lambda: os.rmdir("tmp/otherdir")),
            refused(lambda: os.rename("tmp/mine", "tmp/other")),
            refused(lambda: os.unlink("tmp/mine")),
        ]

    assert in_child(attempt, cwd=union.merged, uid=USER, gid=USER) == [errno.EPERM] * 4 + [0]
    assert union.names("tmp") == ["other", "otherdir"]


SET_ID = File(b"data", mode=0o6777, uid=OTHER, gid=GROUP)


@pytest.mark.parametrize(
    "where", [pytest.param("lower", marks=layers({"f": SET_ID})), pytest.param("upper", marks=layers(upper={"f": SET_ID}))]
)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: append("f"), id="write"),
        pytest.param(lambda: os.truncate("f", 1), id="truncate"),
        pytest.param(lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)), id="O_TRUNC"),
    ],
)
def test_set_id_bits_fall_when_an_unprivileged_caller_changes_data(
    union: Union, change: Callable[[], object], where: str
) -> None:
    in_child(change, cwd=union.merged, uid=USER, gid=USER)
    assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o777, where
    assert stat.S_IMODE((union.upper / "f").stat().st_mode) == 0o777


def append(name: str) -> None:
    with open(name, "ab") as file:
        file.write(b"x")


@layers({"f": File(b"data", mode=0o6777)})
def test_set_id_bits_stay_when_root_writes(union: Union) -> None:
    append(os.fspath(union.merged / "f"))
    assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o6777


@layers({"f": File(b"data", mode=0o6755, uid=USER, gid=USER)})
def test_set_id_bits_fall_when_the_owner_gives_the_file_another_group(union: Union) -> None:
    in_child(lambda: os.chown("f", -1, GROUP), cwd=union.merged, uid=USER, gid=USER, groups=[GROUP])
    status = (union.merged / "f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o755, GROUP)


@layers({"f": File(b"data", mode=0o755, uid=USER, gid=GROUP)})
def test_set_gid_by_an_owner_outside_the_group_is_dropped(union: Union) -> None:
    in_child(lambda: Path("f").chmod(0o2755), cwd=union.merged, uid=USER, gid=USER)
    assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o755


@layers({"d": Dir(mode=0o2777, gid=GROUP)})
def test_new_objects_of_a_user_in_a_set_gid_directory(union: Union) -> None:
    def make() -> None:
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o2775))
        os.mkdir("sub")

    in_child(make, cwd=union.merged / "d", uid=USER, gid=USER)
    file, directory = (union.merged / "d/f").stat(), (union.merged / "d/sub").stat()
    assert (file.st_uid, file.st_gid, directory.st_uid, directory.st_gid) == (USER, GROUP, USER, GROUP)
    # inode(7): a set-gid bit with group execute falls for a caller who is not in the group.
    assert not file.st_mode & stat.S_ISGID
    assert directory.st_mode & stat.S_ISGID


@layers({"f": File(b"data", mode=0o600)})
def test_descriptor_passed_on_works_whatever_the_mode(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:

        def use() -> bytes:
            os.pwrite(fd, b"DATA", 0)
            return os.pread(fd, 4, 0)

        assert in_child(use, cwd=union.merged, uid=USER, gid=USER) == b"DATA"


@layers({".": OPEN, "null": Special(stat.S_IFCHR, os.makedev(1, 3), mode=0o666), "exec": File(b"#!/bin/sh\n", mode=0o700)})
def test_access_asks_for_the_caller(union: Union) -> None:
    def ask() -> list[bool]:
        return [os.access("exec", os.R_OK), os.access("exec", os.X_OK), os.access("null", os.W_OK), os.access(".", os.W_OK)]

    assert in_child(ask, cwd=union.merged, uid=USER, gid=USER) == [False, False, True, True]
    with opened(union.merged / "null", os.O_WRONLY) as fd:
        assert os.write(fd, b"swallowed") == 9
    with fails_with(errno.ENOTDIR):
        os.listdir(union.merged / "exec")
