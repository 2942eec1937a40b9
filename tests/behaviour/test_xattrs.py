"""Extended attributes: every namespace, flags, sizes, and the union's own names, which are hidden and escaped."""

from __future__ import annotations

import errno
import os

import pytest

from . import acl
from .layers import OPAQUE, WHITEOUT, Dir, File, Symlink
from .syscalls import fails_with, getxattr_size, listxattr_size, opened
from .union import Union

layers = pytest.mark.layers

XATTRS = {"user.one": b"1", "user.empty": b"", "trusted.two": b"\x00\xff", "security.three": b"label"}

where = pytest.mark.parametrize(
    "where",
    [
        pytest.param("lower", marks=layers({"f": File(b"x", xattrs=XATTRS)})),
        pytest.param("upper", marks=layers(upper={"f": File(b"x", xattrs=XATTRS)})),
        pytest.param("directory", marks=layers({"f": Dir(xattrs=XATTRS)})),
        pytest.param("merged directory", marks=layers([{"f": Dir(xattrs=XATTRS)}, {"f": Dir(xattrs={"user.hidden": b""})}])),
    ],
)


@where
def test_are_listed_and_read(union: Union, where: str) -> None:
    assert sorted(os.listxattr(union.merged / "f")) == sorted(XATTRS), where
    for name, value in XATTRS.items():
        assert os.getxattr(union.merged / "f", name) == value


@where
def test_are_set_changed_and_removed(union: Union, where: str) -> None:
    path = union.merged / "f"
    os.setxattr(path, "user.new", b"new")
    os.setxattr(path, "user.one", b"longer than before")
    os.removexattr(path, "trusted.two")
    expected = {**XATTRS, "user.new": b"new", "user.one": b"longer than before"}
    del expected["trusted.two"]
    for each in (path, union.upper / "f"):
        names = [name for name in os.listxattr(each) if not name.startswith("trusted.overlay.")]
        assert {name: os.getxattr(each, name) for name in names} == expected, where


@where
def test_errors(union: Union, where: str) -> None:
    path = union.merged / "f"
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.none")
    with fails_with(errno.ENODATA):
        os.removexattr(path, "user.none")
    with fails_with(errno.EEXIST):
        os.setxattr(path, "user.one", b"x", os.XATTR_CREATE)
    with fails_with(errno.ENODATA):
        os.setxattr(path, "user.none", b"x", os.XATTR_REPLACE)
    with fails_with(errno.EOPNOTSUPP):
        os.getxattr(path, "nonsense.name")
    assert os.getxattr(path, "user.one") == b"1", where


@where
def test_create_and_replace_flags(union: Union, where: str) -> None:
    path = union.merged / "f"
    os.setxattr(path, "user.new", b"1", os.XATTR_CREATE)
    os.setxattr(path, "user.new", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.new") == b"2", where


@layers({"f": File(xattrs={"user.name": b"12345"})})
def test_sizes_can_be_asked_for_and_short_buffers_are_erange(union: Union) -> None:
    path = union.merged / "f"
    assert getxattr_size(path, "user.name", 0) == 5
    assert getxattr_size(path, "user.name", 5) == 5
    assert getxattr_size(path, "user.name", 100) == 5
    with fails_with(errno.ERANGE):
        getxattr_size(path, "user.name", 4)
    assert listxattr_size(path, 0) == len("user.name") + 1
    assert listxattr_size(path, 10) == 10
    with fails_with(errno.ERANGE):
        listxattr_size(path, 9)


@layers({"f": b"", "none": b""})
def test_object_without_any(union: Union) -> None:
    assert os.listxattr(union.merged / "f") == []
    assert listxattr_size(union.merged / "f", 0) == 0
    with fails_with(errno.ENODATA):
        os.getxattr(union.merged / "f", "user.x")
    os.setxattr(union.merged / "f", "user.x", b"now")
    assert os.getxattr(union.merged / "f", "user.x") == b"now"
    assert os.listxattr(union.merged / "none") == []


@layers({"f": b""})
def test_big_values(union: Union) -> None:
    path = union.merged / "f"
    # One block of ext4 holds all xattrs of an inode without the ea_inode feature.
    for size in (1000, 3000):
        value = os.urandom(size)
        os.setxattr(path, "user.big", value)
        assert os.getxattr(path, "user.big") == value
        assert os.getxattr(union.upper / "f", "user.big") == value
    with fails_with(errno.E2BIG):
        os.setxattr(path, "user.big", bytes(65537))


@layers({"f": b""})
def test_binary_values_and_unusual_names(union: Union) -> None:
    path = os.fsencode(union.merged / "f")
    for name, value in [(b"user.\xff\xfe", b"\0" * 10), (b"user.with space\n", b"\n"), (b"user." + b"n" * 250, b"")]:
        os.setxattr(path, name, value)
        assert os.getxattr(path, name) == value
        assert os.fsdecode(name) in os.listxattr(path)


@layers({"f": b"x"})
def test_by_descriptor(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        os.setxattr(fd, "user.x", b"1")
        assert os.getxattr(fd, "user.x") == b"1"
        assert os.listxattr(fd) == ["user.x"]
        os.removexattr(fd, "user.x")
        assert os.listxattr(fd) == []
    assert os.listxattr(union.merged / "f") == []


@layers({"link": Symlink("x", xattrs={"trusted.l": b"1"})})
def test_symlinks_have_trusted_but_no_user_xattrs(union: Union) -> None:
    path = union.merged / "link"
    assert os.listxattr(path, follow_symlinks=False) == ["trusted.l"]
    assert os.getxattr(path, "trusted.l", follow_symlinks=False) == b"1"
    with fails_with(errno.EPERM):
        os.setxattr(path, "user.x", b"", follow_symlinks=False)


class TestOwnNames:
    """``trusted.overlay.*`` belongs to the union: hidden as it stands on a layer, and escaped on the way through the mount."""

    @layers({"gone": b""}, upper={"d": OPAQUE, "gone": WHITEOUT, "d/f": File(xattrs={"trusted.overlay.origin": b""})})
    def test_are_hidden(self, union: Union) -> None:
        for name in ("d", "d/f"):
            assert os.listxattr(union.merged / name) == []
        with fails_with(errno.ENODATA):
            os.getxattr(union.merged / "d", "trusted.overlay.opaque")

    @layers({"d/f": b""})
    def test_set_through_the_mount_are_escaped_on_the_layer(self, union: Union) -> None:
        path = union.merged / "d"
        os.setxattr(path, "trusted.overlay.opaque", b"y")
        assert os.getxattr(path, "trusted.overlay.opaque") == b"y"
        assert os.listxattr(path) == ["trusted.overlay.opaque"]
        assert os.getxattr(union.upper / "d", "trusted.overlay.overlay.opaque") == b"y"
        assert union.names("d") == ["f"]
        os.removexattr(path, "trusted.overlay.opaque")
        assert os.listxattr(path) == []

    @layers({"d": Dir(xattrs={"trusted.overlay.overlay.opaque": b"y", "trusted.overlay.overlay.overlay.x": b"deep"}), "d/f": b""})
    def test_escaped_on_a_lower_are_shown_unescaped(self, union: Union) -> None:
        assert sorted(os.listxattr(union.merged / "d")) == ["trusted.overlay.opaque", "trusted.overlay.overlay.x"]
        assert os.getxattr(union.merged / "d", "trusted.overlay.overlay.x") == b"deep"
        os.chmod(union.merged / "d", 0o700)
        assert sorted(os.listxattr(union.merged / "d")) == ["trusted.overlay.opaque", "trusted.overlay.overlay.x"]
        assert os.getxattr(union.upper / "d", "trusted.overlay.overlay.overlay.x") == b"deep"
        assert union.names("d") == ["f"]

    @layers({"f": File(xattrs={"user.overlay.opaque": b"y", "trusted.overlayed": b"1"})})
    def test_of_the_other_namespace_and_similar_names_pass(self, union: Union) -> None:
        assert sorted(os.listxattr(union.merged / "f")) == ["trusted.overlayed", "user.overlay.opaque"]
        assert os.getxattr(union.merged / "f", "user.overlay.opaque") == b"y"


ACL_6 = acl.with_user(owner=6, uid=1234, permission=6, group=4, mask=6, other=0)


@layers({"f": b"", "d": Dir()})
def test_access_acl_set_through_the_mount_changes_the_mode(union: Union) -> None:
    os.setxattr(union.merged / "f", acl.ACCESS, ACL_6)
    for path in (union.merged / "f", union.upper / "f"):
        assert os.getxattr(path, acl.ACCESS) == ACL_6
        assert path.stat().st_mode & 0o777 == 0o660
    os.chmod(union.merged / "f", 0o600)
    assert os.getxattr(union.merged / "f", acl.ACCESS) == acl.with_user(owner=6, uid=1234, permission=6, group=4, mask=0, other=0)
    os.removexattr(union.merged / "f", acl.ACCESS)
    assert os.listxattr(union.merged / "f") == []


@layers({"f": b"", "d": Dir()})
def test_default_acl_is_for_directories_only(union: Union) -> None:
    os.setxattr(union.merged / "d", acl.DEFAULT, ACL_6)
    assert os.getxattr(union.upper / "d", acl.DEFAULT) == ACL_6
    with fails_with(errno.EACCES):
        os.setxattr(union.merged / "f", acl.DEFAULT, ACL_6)


@layers({"f": File(xattrs={acl.ACCESS: ACL_6})})
def test_access_acl_is_listed_and_survives_copy_up(union: Union) -> None:
    assert os.listxattr(union.merged / "f") == [acl.ACCESS]
    os.utime(union.merged / "f")
    assert os.getxattr(union.upper / "f", acl.ACCESS) == ACL_6
