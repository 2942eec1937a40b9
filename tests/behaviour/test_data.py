"""Contents of files: reading and writing in every way, holes, sizes, and syncing."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from .layers import OLD_NS, Dir, File
from .process import in_child
from .syscalls import (
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    fails_with,
    fallocate,
    opened,
)
from .union import Union

layers = pytest.mark.layers

KIB = 1024
MIB = 1 << 20
FS_IOC_FIEMAP = 0xC020660B
BLOCK = bytes(range(256)) * 16

where = pytest.mark.parametrize(
    "where", [pytest.param("lower", marks=layers({"f": BLOCK})), pytest.param("upper", marks=layers(upper={"f": BLOCK}))]
)


@where
def test_reads_at_every_edge(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        assert os.pread(fd, 10, 0) == BLOCK[:10], where
        assert os.pread(fd, 10, 4090) == BLOCK[4090:]
        assert os.pread(fd, 10, 4096) == b""
        assert os.pread(fd, 10, 1 << 40) == b""
        assert os.pread(fd, 0, 0) == b""
        assert os.read(fd, 3) + os.read(fd, 4) == BLOCK[:7]
        assert os.lseek(fd, -2, os.SEEK_END) == 4094
        assert os.read(fd, 10) == BLOCK[-2:]


@where
def test_writes_inside_across_and_behind_the_end(union: Union, where: str) -> None:
    expected = bytearray(BLOCK)
    with opened(union.merged / "f", os.O_RDWR) as fd:
        for offset, data in [(0, b"first"), (100, b"x" * 5000), (9000, b"behind")]:
            assert os.pwrite(fd, data, offset) == len(data), where
            expected.extend(bytes(max(0, offset + len(data) - len(expected))))
            expected[offset : offset + len(data)] = data
            assert os.pread(fd, len(expected) + 1, 0) == expected
            assert os.fstat(fd).st_size == len(expected)
    assert (union.upper / "f").read_bytes() == expected


@where
def test_appends_of_two_descriptors_do_not_overwrite_each_other(union: Union, where: str) -> None:
    with (
        opened(union.merged / "f", os.O_WRONLY | os.O_APPEND) as one,
        opened(union.merged / "f", os.O_WRONLY | os.O_APPEND) as two,
    ):
        for number in range(10):
            os.write(one, b"one%d" % number)
            os.write(two, b"two%d" % number)
    tail = b"".join(b"one%dtwo%d" % (number, number) for number in range(10))
    assert (union.merged / "f").read_bytes() == BLOCK + tail, where


@where
def test_write_of_one_descriptor_is_read_by_another(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as writer, opened(union.merged / "f", os.O_RDONLY) as reader:
        os.pwrite(writer, b"shared", 10)
        assert os.pread(reader, 6, 10) == b"shared", where
        os.ftruncate(writer, 12)
        assert os.pread(reader, 100, 10) == b"sh"
        assert os.fstat(reader).st_size == 12


@layers({"f": File(b"data")})
def test_truncate_to_the_size_that_a_file_has_moves_its_mtime(union: Union) -> None:
    path = union.merged / "f"
    os.utime(path, ns=(OLD_NS, OLD_NS))
    os.truncate(path, 4)
    moved = path.stat().st_mtime_ns > OLD_NS
    assert moved == union.deviates("same-size-mtime", kernel=True, ours=False)


@where
def test_truncate_down_and_up_clears_what_was_cut_off(union: Union, where: str) -> None:
    path = union.merged / "f"
    os.truncate(path, 100)
    os.truncate(path, 5000)
    assert path.read_bytes() == BLOCK[:100] + bytes(4900), where
    with opened(path, os.O_RDWR) as fd:
        os.ftruncate(fd, 50)
        os.ftruncate(fd, 60)
        assert os.pread(fd, 100, 0) == BLOCK[:50] + bytes(10)
    assert (union.upper / "f").stat().st_size == 60


@where
def test_size_and_mtime_follow_a_write_at_once(union: Union, where: str) -> None:
    before = (union.merged / "f").stat()
    with opened(union.merged / "f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"more")
        during = (union.merged / "f").stat()
        assert during.st_size == before.st_size + 4, where
        assert during.st_mtime_ns > before.st_mtime_ns
        assert os.fstat(fd).st_size == during.st_size
    after = (union.merged / "f").stat()
    assert (after.st_size, after.st_mtime_ns) == (during.st_size, during.st_mtime_ns)


def test_sparse_file_uses_little_room(union: Union) -> None:
    with opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.pwrite(fd, b"end", 64 * MIB)
        os.fsync(fd)
        assert os.pread(fd, 10, 32 * MIB) == bytes(10)
    status = (union.merged / "f").stat()
    assert status.st_size == 64 * MIB + 3
    assert status.st_blocks * 512 < MIB
    assert status.st_blocks == (union.upper / "f").stat().st_blocks


@layers({"f": File(extents={MIB: b"middle"}, size=4 * MIB)})
def test_seek_finds_data_and_holes(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        # Without the LSEEK request the whole file counts as data, which lseek(2) allows.
        data, hole = union.deviates("seek-data-hole", kernel=(MIB, MIB + 4 * KIB), ours=(0, 4 * MIB))
        assert os.lseek(fd, 0, os.SEEK_DATA) == data
        assert os.lseek(fd, data, os.SEEK_HOLE) == hole
        with fails_with(errno.ENXIO):
            os.lseek(fd, 4 * MIB, os.SEEK_DATA)


@where
def test_fallocate_reserves_and_punches(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        if union.deviates("fallocate", kernel=True, ours=False):
            fallocate(fd, 0, 0, MIB)
            assert os.fstat(fd).st_size == MIB, where
            fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * MIB)
            assert os.fstat(fd).st_size == MIB
            fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MIB)
            assert os.pread(fd, 4096, 0) == bytes(4096)
        else:
            with fails_with(errno.EOPNOTSUPP):
                fallocate(fd, 0, 0, MIB)


def outcome(change: Callable[[], object]) -> int:
    """The errno that ``change`` fails with; 0 if it does not."""
    try:
        change()
    except OSError as error:
        return error.errno or -1
    return 0


@where
@pytest.mark.parametrize("mode", [FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE], ids=["collapse", "insert"])
def test_ranges_are_taken_out_and_put_in_where_the_upper_can(union: Union, where: str, mode: int) -> None:
    plain = union.mounted.work / f"{where}-{mode}"
    results = []
    for path in (plain, union.merged / "f"):
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            os.pwrite(fd, BLOCK * 3, 0)
            failure = outcome(lambda fd=fd: fallocate(fd, mode, len(BLOCK), len(BLOCK)))
            results.append((failure, os.pread(fd, MIB, 0)))
    plain.unlink()
    assert results[1] == union.deviates("fallocate-modes", kernel=results[0], ours=(errno.EOPNOTSUPP, BLOCK * 3))


@where
def test_extents_are_told_where_the_filesystem_does(union: Union, where: str) -> None:
    layer = union.lower if where == "lower" else union.upper

    def fiemap(path: Path) -> int:
        with opened(path, os.O_RDONLY) as fd:
            return outcome(lambda: fcntl.ioctl(fd, FS_IOC_FIEMAP, struct.pack("=QQIIII", 0, MIB, 0, 0, 0, 0)))

    unsupported = union.deviates("extents", kernel=fiemap(layer / "f"), ours=errno.EOPNOTSUPP)
    assert fiemap(union.merged / "f") == unsupported


@layers({"source": BLOCK * 64}, upper={"target": b""})
def test_copy_file_range_copies(union: Union) -> None:
    with opened(union.merged / "source", os.O_RDONLY) as source, opened(union.merged / "target", os.O_WRONLY) as target:
        done = 0
        while copied := os.copy_file_range(source, target, MIB):
            done += copied
    assert done == len(BLOCK) * 64
    assert (union.merged / "target").read_bytes() == BLOCK * 64


@layers({"source": BLOCK, "low": BLOCK}, upper={"up": BLOCK})
@pytest.mark.parametrize("name", ["low", "up"])
def test_copy_file_range_copies_pieces_as_they_are_at_the_moment(union: Union, name: str) -> None:
    expected = bytearray(BLOCK)
    with opened(union.merged / name, os.O_RDWR) as fd, opened(union.merged / "source", os.O_RDONLY) as source:
        os.pwrite(fd, b"written", 4090)  # perhaps still in a cache when the copying begins
        assert os.copy_file_range(fd, fd, 100, 4080, 1) == 17
        assert os.copy_file_range(source, fd, 50, 1000, 10_000) == 50
        assert os.copy_file_range(source, fd, 50, 4096, 0) == 0
        expected[4090:] = b"written"
        expected[1:18] = expected[4080:]
        expected += bytes(10_000 - len(expected)) + BLOCK[1000:1050]
        assert os.pread(fd, 20_000, 0) == expected
        assert os.fstat(fd).st_size == len(expected)
        with fails_with(errno.EINVAL):
            os.copy_file_range(fd, fd, 100, 0, 50)
    assert (union.upper / name).read_bytes() == expected
    assert not union.is_copied_up("source")


@layers({"source": BLOCK, "f": File(BLOCK, mode=0o6755)})
def test_copy_file_range_by_others_drops_set_id_bits(union: Union) -> None:
    def copy() -> None:
        with opened(Path("source"), os.O_RDONLY) as source, opened(Path("f"), os.O_WRONLY) as target:
            assert os.copy_file_range(source, target, 10) == 10

    (union.merged / "f").chmod(0o6777)
    in_child(copy, cwd=union.merged, uid=1000, gid=1000)
    assert (union.merged / "f").stat().st_mode & 0o7777 == 0o777
    assert (union.upper / "f").stat().st_mode & 0o7777 == 0o777


@layers({"source": BLOCK * 64})
def test_sendfile_copies(union: Union) -> None:
    with (
        opened(union.merged / "source", os.O_RDONLY) as source,
        opened(union.merged / "target", os.O_CREAT | os.O_WRONLY) as target,
    ):
        while os.sendfile(target, source, None, MIB):
            pass
    assert (union.upper / "target").read_bytes() == BLOCK * 64


def test_large_file_round_trip(union: Union) -> None:
    data = os.urandom(MIB) * 9 + b"odd tail"
    (union.merged / "f").write_bytes(data)
    assert (union.merged / "f").read_bytes() == data
    assert (union.upper / "f").read_bytes() == data


def test_vectors_of_buffers(union: Union) -> None:
    with opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as fd:
        assert os.writev(fd, [b"ab", b"", b"cde"]) == 5
        one, two = bytearray(3), bytearray(9)
        assert os.preadv(fd, [one, two], 0) == 5
    assert bytes(one) == b"abc"
    assert bytes(two[:2]) == b"de"


@where
def test_o_trunc_and_creat_over_what_exists(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_CREAT | os.O_TRUNC | os.O_RDWR) as fd:
        assert os.fstat(fd).st_size == 0, where
        os.write(fd, b"new")
        assert os.pread(fd, 10, 0) == b"new"
    assert (union.merged / "f").read_bytes() == b"new"


@where
def test_append_flag_can_be_set_on_an_open_descriptor(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
        os.write(fd, b"tail")
    assert (union.merged / "f").read_bytes() == BLOCK + b"tail", where


@layers({"low": b"x", "d/f": b""}, upper={"up": b"x", "updir/f": b""})
@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync], ids=["fsync", "fdatasync"])
@pytest.mark.parametrize("name", ["low", "up", "d", "updir"])
def test_sync_of_files_and_directories(union: Union, name: str, sync: object) -> None:
    assert callable(sync)
    with opened(union.merged / name, os.O_RDONLY) as fd:
        sync(fd)
    if name in ("low", "up"):
        with opened(union.merged / name, os.O_RDWR) as fd:
            os.write(fd, b"y")
            sync(fd)
        assert (union.upper / name).read_bytes() == b"y"


@layers({"f": b"x", "d": Dir()})
def test_errors_of_open_read_and_write(union: Union) -> None:
    merged = union.merged
    for number, name, flags in [
        (errno.EISDIR, "d", os.O_WRONLY),
        (errno.EISDIR, "d", os.O_RDWR),
        (errno.EISDIR, "d", os.O_CREAT | os.O_WRONLY),
        (errno.ENOTDIR, "f", os.O_DIRECTORY),
        (errno.ENOTDIR, "f/x", os.O_RDONLY),
        (errno.ENOTDIR, "f/x", os.O_CREAT | os.O_WRONLY),
        (errno.ENOENT, "none", os.O_RDONLY),
        (errno.ENOENT, "none/x", os.O_CREAT | os.O_WRONLY),
        (errno.ENAMETOOLONG, "x" * 256, os.O_CREAT | os.O_WRONLY),
    ]:
        with fails_with(number):
            os.open(merged / name, flags)
    with opened(merged / "f", os.O_RDONLY) as fd, fails_with(errno.EBADF):
        os.write(fd, b"x")
    with opened(merged / "f", os.O_WRONLY) as fd, fails_with(errno.EBADF):
        os.read(fd, 1)
    with opened(merged / "d", os.O_RDONLY) as fd, fails_with(errno.EISDIR):
        os.read(fd, 1)
    with fails_with(errno.EISDIR):
        os.truncate(merged / "d", 0)
    with fails_with(errno.EINVAL):
        os.truncate(merged / "f", -1)
