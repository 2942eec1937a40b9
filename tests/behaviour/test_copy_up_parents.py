"""Copy-up through parents: the directories on the way come along as they are, and only a real change moves their times."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from . import acl
from .layers import OLD_NS, OPAQUE, Dir, File
from .syscalls import opened
from .union import Union

layers = pytest.mark.layers

CLOCK_REALTIME_COARSE = 5
"""include/uapi/linux/time.h; what filesystems stamp with."""

ACL = acl.with_user(7, 1234, 5, 5, 5, 1)
DEEP = {
    "a": Dir(mode=0o701, uid=1, gid=2, mtime_ns=OLD_NS + 1),
    "a/b": Dir(mode=0o2755, uid=3, gid=4, mtime_ns=OLD_NS + 2, xattrs={"user.b": b"B"}),
    "a/b/c": Dir(mode=0o1777, uid=5, gid=6, mtime_ns=OLD_NS + 3, xattrs={"trusted.c": b"C", acl.DEFAULT: ACL}),
    "a/b/c/f": File(b"deep", uid=7, mtime_ns=OLD_NS + 4),
}


def described(path: Path) -> tuple[int, int, int, int, dict[str, bytes]]:
    status = path.lstat()
    xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("trusted.overlay.")}
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, xattrs


@layers(DEEP)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: os.chmod(path, 0o600), id="chmod"),
        pytest.param(lambda path: path.write_bytes(b"new"), id="write"),
        pytest.param(lambda path: os.setxattr(path, "user.x", b""), id="setxattr"),
    ],
)
def test_parents_are_copied_up_with_their_metadata(union: Union, change: Callable[[Path], object]) -> None:
    change(union.merged / "a/b/c/f")
    for directory in ("a", "a/b", "a/b/c"):
        expected = described(union.lower / directory)
        assert described(union.upper / directory) == expected
        assert described(union.merged / directory) == expected


@layers(DEEP)
def test_new_name_moves_only_the_times_of_its_own_directory(union: Union) -> None:
    (union.merged / "a/b/c/new").touch()
    assert (union.merged / "a").stat().st_mtime_ns == OLD_NS + 1
    assert (union.merged / "a/b").stat().st_mtime_ns == OLD_NS + 2
    assert (union.merged / "a/b/c").stat().st_mtime_ns > OLD_NS + 3
    assert (union.upper / "a/b").stat().st_mtime_ns == OLD_NS + 2


@layers(DEEP, upper={"a": Dir(mode=0o755, uid=99, mtime_ns=OLD_NS + 9)})
def test_parent_that_is_in_the_upper_already_is_left_alone(union: Union) -> None:
    os.chmod(union.merged / "a/b/c/f", 0o600)
    status = (union.upper / "a").stat()
    assert (status.st_uid, status.st_mtime_ns) == (99, OLD_NS + 9)


@layers({"d/f": b"x"})
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: (d / "f").unlink(), id="unlink"),
        pytest.param(lambda d: (d / "new").touch(), id="create"),
        pytest.param(lambda d: (d / "new").mkdir(), id="mkdir"),
        pytest.param(lambda d: (d / "new").symlink_to("x"), id="symlink"),
        pytest.param(lambda d: (d / "f").rename(d / "g"), id="rename"),
        pytest.param(lambda d: (d / "g").hardlink_to(d / "f"), id="link"),
    ],
)
def test_change_of_names_moves_mtime_and_ctime_of_the_directory(union: Union, change: Callable[[Path], object]) -> None:
    before = (union.merged / "d").stat()
    change(union.merged / "d")
    after = (union.merged / "d").stat()
    assert after.st_mtime_ns > before.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


@layers({"d/f": b"x", "d/g": b"y"})
def test_copy_up_of_a_child_does_not_move_the_mtime_of_its_directory(union: Union) -> None:
    (union.merged / "d/f").write_bytes(b"new")
    assert (union.merged / "d").stat().st_mtime_ns == OLD_NS
    os.chmod(union.merged / "d/g", 0o600)
    assert (union.merged / "d").stat().st_mtime_ns == OLD_NS


@layers({"a/b/f": b"x"})
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f.chmod(0o600), id="chmod"),
        pytest.param(lambda f: os.setxattr(f, "user.x", b""), id="setxattr"),
        pytest.param(lambda f: f.write_bytes(b"new"), id="write"),
        pytest.param(lambda f: f.rename(f.with_name("g")), id="rename"),
    ],
)
def test_whoever_caused_a_copy_up_sees_the_new_ctime_of_the_parents(union: Union, change: Callable[[Path], object]) -> None:
    """The kernel has the old one in its cache, and is told before it gets the reply."""
    parents = union.merged / "a", union.merged / "a/b"
    before = [parent.stat().st_ctime_ns for parent in parents]
    change(union.merged / "a/b/f")
    after = [parent.stat().st_ctime_ns for parent in parents]
    assert all(new > old for new, old in zip(after, before, strict=True)), (before, after)


@layers({"d/f": b"x", "d/g": b"y"})
def test_copy_up_of_a_child_does_not_move_the_ctime_of_its_directory(union: Union) -> None:
    (union.merged / "d/f").chmod(0o600)
    with opened(union.merged / "d", os.O_RDONLY) as fd:
        before = os.fstat(fd).st_ctime_ns
        while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= before:
            pass  # the time of filesystems must have moved, which takes some milliseconds
        (union.merged / "d/g").chmod(0o600)
        assert (os.fstat(fd).st_ctime_ns > before) == union.deviates("copy-up-ctime", kernel=True, ours=False)


@layers({"d/f": b"x", "d/g": b"y", "d/sub/h": b"z"})
def test_directory_that_is_read_after_a_copy_up_into_it_has_not_changed_meanwhile(union: Union) -> None:
    (union.merged / "d/f").chmod(0o600)
    before = (union.merged / "d").stat().st_ctime_ns
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= before:
        pass  # as above
    (union.merged / "d/g").chmod(0o600)
    (union.merged / "d/sub/h").chmod(0o600)
    seen = (union.merged / "d").stat().st_ctime_ns
    # Reading makes the kernel forget the time of access, and ask for all attributes.
    assert sorted(os.listdir(union.merged / "d")) == ["f", "g", "sub"]
    assert (union.merged / "d").stat().st_ctime_ns == seen
    assert (seen > before) == union.deviates("copy-up-ctime", kernel=True, ours=False)


@layers([{"d": OPAQUE, "d/f": b"1"}, {"d/g": b"2"}])
def test_copy_up_of_an_opaque_lower_directory_shows_nothing_new(union: Union) -> None:
    (union.merged / "d/f").write_bytes(b"new")
    assert union.names("d") == ["f"]


@layers([{"d/top": b""}, {"d/bottom": b"x", "d/sub/leaf": b"y"}])
def test_copy_up_from_the_bottom_of_a_merged_directory(union: Union) -> None:
    (union.merged / "d/sub/leaf").write_bytes(b"new")
    assert union.names("d") == ["bottom", "sub", "top"]
    assert sorted(os.listdir(union.upper / "d")) == ["sub"]


@layers({"a/b/c/d/e/f/g/h/leaf": b"x"})
def test_copy_up_through_eight_levels(union: Union) -> None:
    (union.merged / "a/b/c/d/e/f/g/h/leaf").write_bytes(b"y")
    assert (union.upper / "a/b/c/d/e/f/g/h/leaf").read_bytes() == b"y"
