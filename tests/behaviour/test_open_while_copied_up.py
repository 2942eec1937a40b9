"""A lower file that is open somewhere while somebody else changes it.

The lower must stay as it is (fuse-overlayfs 2.0 writes into it here: it lets the writer reuse the passthrough registration of
the reader), and whoever opens the file from then on must see the change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .layers import Link
from .process import in_child
from .syscalls import opened
from .union import Union

layers = pytest.mark.layers

OLD = b"A" * 8192

WRITERS: dict[str, Callable[[Path], object]] = {
    "write": lambda path: overwrite(path, os.O_RDWR),
    "append": lambda path: overwrite(path, os.O_WRONLY | os.O_APPEND),
    "truncate": lambda path: os.truncate(path, 3),
    "O_TRUNC": lambda path: overwrite(path, os.O_WRONLY | os.O_TRUNC),
    "chmod": lambda path: os.chmod(path, 0o600),
    "rename": lambda path: path.rename(path.with_name("renamed")),
    "link": lambda path: os.link(path, path.with_name("linked")),
}


def overwrite(path: Path, flags: int) -> None:
    with opened(path, flags) as fd:
        os.write(fd, b"BBBB")


@layers({"f": OLD})
@pytest.mark.parametrize("writer", WRITERS)
def test_lower_stays_unchanged_with_a_reader_open(union: Union, writer: str) -> None:
    with (union.merged / "f").open("rb") as reader:
        assert reader.read(4) == b"AAAA"
        WRITERS[writer](union.merged / "f")
        assert (union.lower / "f").read_bytes() == OLD
        assert union.changed_in_lowers() == []


@layers({"f": OLD})
def test_who_opens_after_a_write_sees_it_while_the_reader_is_still_open(union: Union) -> None:
    with (union.merged / "f").open("rb") as reader:
        reader.read(4)
        overwrite(union.merged / "f", os.O_RDWR)
        assert (union.merged / "f").read_bytes() == b"BBBB" + OLD[4:]
        assert in_child(lambda: Path("f").read_bytes(), cwd=union.merged) == b"BBBB" + OLD[4:]
    assert (union.merged / "f").read_bytes() == b"BBBB" + OLD[4:]
    assert (union.upper / "f").read_bytes() == b"BBBB" + OLD[4:]


@layers({"f": OLD})
def test_what_the_reader_itself_sees(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as reader:
        assert os.pread(reader, 4, 0) == b"AAAA"
        overwrite(union.merged / "f", os.O_RDWR)
        assert os.pread(reader, 4, 0) == union.deviates("reader-keeps-lower-data", kernel=b"BBBB", ours=b"AAAA")


@layers({"f": OLD})
def test_attributes_through_the_readers_descriptor_are_the_new_ones(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as reader:
        before = os.fstat(reader)
        os.chmod(union.merged / "f", 0o604)
        overwrite(union.merged / "f", os.O_WRONLY | os.O_APPEND)
        now = os.fstat(reader)
        assert (stat.S_IMODE(now.st_mode), now.st_size) == (0o604, len(OLD) + 4)
        assert now.st_ino == before.st_ino == (union.merged / "f").stat().st_ino


@layers({"f": OLD})
def test_change_through_the_readers_descriptor_after_copy_up(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as reader:
        overwrite(union.merged / "f", os.O_RDWR)
        os.fchmod(reader, 0o601)
        os.setxattr(reader, "user.x", b"1")
        assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o601
        assert os.getxattr(union.merged / "f", "user.x") == b"1"
        assert os.getxattr(union.upper / "f", "user.x") == b"1"


@layers({"f": OLD})
def test_reader_and_writer_one_after_another_many_times(union: Union) -> None:
    for number in range(20):
        with (union.merged / "f").open("rb") as reader, (union.merged / "f").open("r+b") as writer:
            reader.read(1)
            writer.write(b"%04d" % number)
        assert (union.merged / "f").read_bytes() == b"%04d" % number + OLD[4:]


@layers({"f": OLD})
def test_many_readers_then_a_writer_in_another_process(union: Union) -> None:
    readers = [os.open(union.merged / "f", os.O_RDONLY) for _ in range(10)]
    try:
        assert {os.pread(fd, 1, 0) for fd in readers} == {b"A"}
        in_child(lambda: overwrite(Path("f"), os.O_RDWR), cwd=union.merged)
        assert (union.lower / "f").read_bytes() == OLD
        assert (union.merged / "f").read_bytes()[:5] == b"BBBBA"
    finally:
        for fd in readers:
            os.close(fd)


@layers({"f": OLD})
def test_path_descriptor_taken_before_copy_up_opens_the_new_file(union: Union) -> None:
    with opened(union.merged / "f", os.O_PATH) as path, opened(union.merged / "f", os.O_RDONLY):
        overwrite(union.merged / "f", os.O_RDWR)
        assert os.fstat(path).st_size == len(OLD)
    assert (union.merged / "f").read_bytes()[:4] == b"BBBB"


@layers({"f": OLD})
def test_writer_that_is_open_when_the_file_is_renamed_and_replaced(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as reader, opened(union.merged / "f", os.O_RDWR) as writer:
        (union.merged / "f").rename(union.merged / "moved")
        (union.merged / "f").write_bytes(b"another")
        os.pwrite(writer, b"BBBB", 0)
        assert os.pread(writer, 5, 0) == b"BBBBA"
        assert os.fstat(reader).st_ino == os.fstat(writer).st_ino
    assert (union.merged / "moved").read_bytes()[:5] == b"BBBBA"
    assert (union.merged / "f").read_bytes() == b"another"


@layers({"f": OLD, "g": Link("f")})
@pytest.mark.mount_options("index=on")
def test_changes_under_another_name_show_at_the_writers_descriptor(own_union: Union) -> None:
    """The other name may still lead to what the kernel knew the lower file by."""
    one, other = own_union.merged / "f", own_union.merged / "g"
    assert other.stat().st_nlink == 2
    with opened(one, os.O_RDONLY), opened(one, os.O_RDWR) as writer:
        os.write(writer, b"BBBB")
        assert os.fstat(writer).st_size == len(OLD)
        os.truncate(other, 3)
        assert os.fstat(writer).st_size == 3
        os.chmod(other, 0o600)
        assert stat.S_IMODE(os.fstat(writer).st_mode) == 0o600
        os.link(other, own_union.merged / "h")
        assert os.fstat(writer).st_nlink == 3
        other.unlink()
        assert os.fstat(writer).st_nlink == 2
        (own_union.merged / "new").touch()
        (own_union.merged / "new").rename(own_union.merged / "h")
        assert os.fstat(writer).st_nlink == 1
    assert one.read_bytes() == b"BBB"
