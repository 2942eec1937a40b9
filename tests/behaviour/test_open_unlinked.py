"""Files that are open and directories that are somebody's current one, after their last name is gone."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from .layers import Dir
from .process import in_child
from .syscalls import fails_with
from .union import Union

layers = pytest.mark.layers

where = pytest.mark.parametrize(
    "where",
    [
        pytest.param("lower", marks=layers({"d/f": b"data"})),
        pytest.param("upper", marks=layers({"d": Dir()}, upper={"d/f": b"data"})),
    ],
)


@pytest.fixture
def unlinked(union: Union) -> Iterator[int]:
    """A descriptor, open for reading and writing, of the file ``d/f`` whose name is gone."""
    fd = os.open(union.merged / "d/f", os.O_RDWR)
    (union.merged / "d/f").unlink()
    yield fd
    os.close(fd)


@where
def test_can_be_read_and_written(union: Union, unlinked: int, where: str) -> None:
    assert os.pread(unlinked, 10, 0) == b"data", where
    os.pwrite(unlinked, b"more data", 2)
    assert os.pread(unlinked, 20, 0) == b"damore data"
    assert union.names("d") == []


@where
def test_has_no_links_left(union: Union, unlinked: int, where: str) -> None:
    status = os.fstat(unlinked)
    assert (status.st_nlink, status.st_size) == (0, 4), where
    assert not (union.merged / "d/f").exists()


@layers({"d/f": b"data"})
def test_lower_file_open_for_reading_can_be_read_after_unlink(union: Union) -> None:
    with (union.merged / "d/f").open("rb") as file:
        (union.merged / "d/f").unlink()
        assert file.read() == b"data"
        assert os.fstat(file.fileno()).st_nlink == union.deviates("unlinked-lower-nlink", kernel=1, ours=0)


@where
def test_can_be_truncated(union: Union, unlinked: int, where: str) -> None:
    os.ftruncate(unlinked, 2)
    assert os.pread(unlinked, 10, 0) == b"da", where
    os.ftruncate(unlinked, 6)
    assert os.pread(unlinked, 10, 0) == b"da\0\0\0\0"
    assert os.fstat(unlinked).st_size == 6
    os.fsync(unlinked)
    assert union.names() == ["d"]


@where
def test_attributes_can_be_changed(union: Union, unlinked: int, where: str) -> None:
    os.fchmod(unlinked, 0o600)
    os.fchown(unlinked, 7, 8)
    os.utime(unlinked, ns=(1, 2))
    status = os.fstat(unlinked)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns) == (0o600, 7, 8, 2), where
    assert union.names("d") == []


@where
def test_xattrs_can_be_changed(union: Union, unlinked: int, where: str) -> None:
    os.setxattr(unlinked, "user.x", b"1")
    assert os.getxattr(unlinked, "user.x") == b"1", where
    assert os.listxattr(unlinked) == ["user.x"]
    os.removexattr(unlinked, "user.x")
    with fails_with(errno.ENODATA):
        os.getxattr(unlinked, "user.x")
    assert union.names("d") == []


@where
def test_new_file_of_the_name_is_another_one(union: Union, unlinked: int, where: str) -> None:
    (union.merged / "d/f").write_bytes(b"new")
    assert os.pread(unlinked, 10, 0) == b"data", where
    assert (union.merged / "d/f").read_bytes() == b"new"
    assert os.fstat(unlinked).st_ino != (union.merged / "d/f").stat().st_ino
    os.pwrite(unlinked, b"OLD", 0)
    assert (union.merged / "d/f").read_bytes() == b"new"


@where
def test_file_replaced_by_rename_stays_readable(union: Union, where: str) -> None:
    with (union.merged / "d/f").open("r+b") as file:
        (union.merged / "d/new").write_bytes(b"new")
        (union.merged / "d/new").rename(union.merged / "d/f")
        assert file.read() == b"data", where
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b"tail")
    assert (union.merged / "d/f").read_bytes() == b"new"


@where
def test_can_be_opened_again_through_proc(union: Union, unlinked: int, where: str) -> None:
    with open(f"/proc/self/fd/{unlinked}", "r+b") as again:
        assert again.read() == b"data", where
        again.write(b"+")
    assert os.pread(unlinked, 10, 0) == b"data+"
    assert union.names("d") == []


@layers({"d/f": b"data"})
def test_changes_of_a_lower_file_open_for_reading_after_unlink(union: Union) -> None:
    with (union.merged / "d/f").open("rb") as file:
        (union.merged / "d/f").unlink()
        if union.deviates("unlinked-lower-changes", kernel=False, ours=True):
            os.fchmod(file.fileno(), 0o600)
            os.setxattr(file.fileno(), "user.x", b"1")
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
            assert os.getxattr(file.fileno(), "user.x") == b"1"
        else:
            with fails_with(errno.EEXIST):
                os.fchmod(file.fileno(), 0o600)
        assert file.read() == b"data"
    assert union.names("d") == []
    assert union.has_whiteout("d/f")


def test_many_unlinked_files_at_once(union: Union) -> None:
    files = []
    for number in range(100):
        path = union.merged / f"f{number}"
        path.write_bytes(b"%d" % number)
        files.append(os.open(path, os.O_RDWR))
        path.unlink()
    assert union.names() == []
    assert [os.pread(fd, 10, 0) for fd in files] == [b"%d" % number for number in range(100)]
    for fd in files:
        os.close(fd)


def visit_removed_directory() -> dict[str, object]:
    """What a process finds whose current directory goes away under it."""
    here = Path.cwd()
    os.rmdir(here)
    found: dict[str, object] = {"listing": os.listdir(".")}
    for name, call in {
        "create": lambda: os.open("f", os.O_CREAT | os.O_WRONLY),
        "mkdir": lambda: os.mkdir("d"),
        "stat": lambda: os.stat("f"),
        "getcwd": os.getcwd,
    }.items():
        try:
            found[name] = call()
        except OSError as error:
            found[name] = error.errno
    found["nlink"] = os.stat(".").st_nlink
    return found


@pytest.mark.parametrize(
    "kernel_nlink",
    [
        pytest.param(2, id="lower", marks=layers({"d": Dir()})),
        pytest.param(0, id="upper", marks=layers(upper={"d": Dir()})),
        pytest.param(1, id="merged", marks=layers([{"d": Dir()}, {"d": Dir()}], upper={"d": Dir()})),
    ],
)
def test_removed_current_directory(union: Union, kernel_nlink: int) -> None:
    found = in_child(visit_removed_directory, cwd=union.merged / "d")
    assert found == {
        "listing": [],
        "create": errno.ENOENT,
        "mkdir": errno.ENOENT,
        "stat": errno.ENOENT,
        "getcwd": errno.ENOENT,
        "nlink": union.deviates("unlinked-lower-nlink", kernel=kernel_nlink, ours=0),
    }
