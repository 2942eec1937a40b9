"""Files made without a name (O_TMPFILE), and given one later or never."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from . import acl
from .layers import Dir
from .process import in_child
from .syscalls import fails_with, link_descriptor, opened
from .union import Union

layers = pytest.mark.layers


@pytest.fixture(autouse=True)
def can_be_made(union: Union) -> bool:
    """Whether there are such files on the backend; where not, the error that programs know is tested here, once for each case."""
    if union.deviates("tmpfile", kernel=True, ours=False):
        return True
    with fails_with(errno.EOPNOTSUPP):
        os.open(union.merged, os.O_TMPFILE | os.O_RDWR)
    return False


@layers({"d": Dir(), "d/other": b""})
def test_can_be_linked_into_place(union: Union, can_be_made: bool) -> None:
    if not can_be_made:
        return
    with opened(union.merged / "d", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        assert os.fstat(fd).st_nlink == 0
        os.write(fd, b"data")
        assert union.names("d") == ["other"]
        link_descriptor(fd, union.merged / "d/f")
        assert os.fstat(fd).st_nlink == 1
        assert os.fstat(fd).st_ino == (union.merged / "d/f").stat().st_ino
        os.write(fd, b" and more")
        assert os.pread(fd, 100, 0) == b"data and more"
    assert union.names("d") == ["f", "other"]
    assert (union.merged / "d/f").read_bytes() == b"data and more"
    assert (union.upper / "d/f").read_bytes() == b"data and more"
    assert stat.S_IMODE((union.upper / "d/f").stat().st_mode) == 0o640


@layers({"gone": b"lower", "taken": b"lower"})
def test_takes_a_removed_name_but_none_that_is_taken(union: Union, can_be_made: bool) -> None:
    if not can_be_made:
        return
    (union.merged / "gone").unlink()
    with opened(union.merged, os.O_TMPFILE | os.O_WRONLY) as fd:
        os.write(fd, b"new")
        with fails_with(errno.EEXIST):
            link_descriptor(fd, union.merged / "taken")
        link_descriptor(fd, union.merged / "gone")
        link_descriptor(fd, union.merged / "again")
        assert os.fstat(fd).st_nlink == 2
    assert (union.merged / "gone").read_bytes() == b"new"
    assert (union.merged / "taken").read_bytes() == b"lower"
    (union.merged / "gone").unlink()
    assert union.has_whiteout("gone")
    assert (union.merged / "again").read_bytes() == b"new"


def test_shows_nowhere_and_takes_every_change(union: Union, can_be_made: bool) -> None:
    if not can_be_made:
        return
    with opened(union.merged, os.O_TMPFILE | os.O_RDWR) as fd:
        assert union.names() == []
        os.ftruncate(fd, 8192)
        os.fchmod(fd, 0o4711)
        os.fchown(fd, 0, 500)
        os.setxattr(fd, "user.x", b"1")
        os.utime(fd, ns=(5, 6))
        os.fsync(fd)
        status = os.fstat(fd)
        assert (status.st_size, status.st_gid, status.st_mtime_ns) == (8192, 500, 6)
        assert os.getxattr(fd, "user.x") == b"1"
        with opened(f"/proc/self/fd/{fd}", os.O_RDWR) as again:  # type: ignore[arg-type]
            os.pwrite(again, b"tail", 8192)
        assert os.pread(fd, 10, 8190) == b"\0\0tail"
    assert union.names() == []


def test_made_with_o_excl_never_gets_a_name(union: Union, can_be_made: bool) -> None:
    if not can_be_made:
        return
    with opened(union.merged, os.O_TMPFILE | os.O_EXCL | os.O_RDWR) as fd, fails_with(errno.ENOENT):
        link_descriptor(fd, union.merged / "f")
    assert union.names() == []


DEFAULT_ACL = acl.with_user(owner=7, uid=1234, permission=6, group=5, mask=7, other=0)


@layers({"plain": Dir(mode=0o777), "acl": Dir(mode=0o777, xattrs={acl.DEFAULT: DEFAULT_ACL}), "sgid": Dir(mode=0o2777, gid=500)})
def test_directory_hands_down_what_it_does_to_any_file(union: Union, can_be_made: bool) -> None:
    if not can_be_made:
        return

    def make() -> dict[str, tuple[int, int, int, list[str]]]:
        found = {}
        for directory in ("plain", "acl", "sgid"):
            fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
            status = os.fstat(fd)
            found[directory] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, os.listxattr(fd))
            os.close(fd)
        return found

    assert in_child(make, cwd=union.merged, uid=1000, gid=1001, umask=0o027) == {
        "plain": (0o640, 1000, 1001, []),
        "acl": (0o660, 1000, 1001, [acl.ACCESS]),
        "sgid": (0o640, 1000, 500, []),
    }


@layers({"d": Dir(mode=0o755), "f": b""})
def test_errors(union: Union, can_be_made: bool) -> None:
    if not can_be_made:
        return
    for number, name, flags in [
        (errno.ENOTDIR, "f", os.O_RDWR),
        (errno.ENOENT, "none", os.O_RDWR),
        (errno.EINVAL, "d", os.O_RDONLY),
    ]:
        with fails_with(number):
            os.open(union.merged / name, os.O_TMPFILE | flags)

    def make() -> None:
        with fails_with(errno.EACCES):
            os.open("d", os.O_TMPFILE | os.O_RDWR)

    in_child(make, cwd=union.merged, uid=1000, gid=1000)
