"""Less common ways to the data of a file, compared with a plain file: fallocate modes, holes, O_DIRECT, copies."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from .layers import File, Node, build
from .syscalls import fails_with, fallocate, opened
from .union import Union

layers = pytest.mark.layers

KIB = 1024
BLOCK = 4 * KIB
DATA = b"".join(bytes([number]) * BLOCK for number in range(1, 9))
HOLES = File(extents={16 * KIB: b"x" * BLOCK, 64 * KIB: b"y" * BLOCK}, size=128 * KIB)

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE, UNSHARE_RANGE = 0x01, 0x02, 0x08, 0x10, 0x20, 0x40
FUSE_MODES = KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE

where = pytest.mark.parametrize(
    "where", [pytest.param("lower", marks=layers({"f": DATA})), pytest.param("upper", marks=layers(upper={"f": DATA}))]
)


def plain_file(directory: Path, content: Node | bytes = DATA) -> Path:
    """The same file on no union."""
    build(directory, {"f": content})
    return directory / "f"


def outcome(action: Callable[[], object]) -> object:
    """What ``action`` returns, or the errno of its error."""
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@where
@pytest.mark.parametrize(
    "mode",
    [
        0,
        KEEP_SIZE,
        PUNCH_HOLE,
        PUNCH_HOLE | KEEP_SIZE,
        ZERO_RANGE,
        ZERO_RANGE | KEEP_SIZE,
        ZERO_RANGE | PUNCH_HOLE,
        COLLAPSE_RANGE,
        INSERT_RANGE,
        UNSHARE_RANGE,
        UNSHARE_RANGE | KEEP_SIZE,
    ],
    ids=hex,
)
def test_fallocate_does_what_it_does_on_a_plain_file(union: Union, tmp_path: Path, where: str, mode: int) -> None:
    def run(path: Path) -> object:
        outcomes = []
        with opened(path, os.O_RDWR) as fd:
            for offset, length in [(BLOCK, BLOCK), (BLOCK + 100, 2 * BLOCK), (len(DATA) - 10, BLOCK), (0, 0)]:
                outcomes.append(outcome(partial(fallocate, fd, mode, offset, length)))
                outcomes.append((os.fstat(fd).st_size, os.pread(fd, 2 * len(DATA), 0)))
        return outcomes

    expected = run(plain_file(tmp_path))
    if mode & ~FUSE_MODES and union.deviates("fallocate-modes", kernel=False, ours=True):
        with opened(union.merged / "f", os.O_RDWR) as fd, fails_with(errno.EOPNOTSUPP):
            fallocate(fd, mode, BLOCK, BLOCK)
    elif union.deviates("fallocate", kernel=True, ours=False):
        assert run(union.merged / "f") == expected, where
        real = union.upper / "f" if union.is_copied_up("f") else union.lower / "f"
        assert real.read_bytes() == (tmp_path / "f").read_bytes()


def holes(path: Path) -> list[int]:
    """Where data and holes begin in turn."""
    found = [0]
    with opened(path, os.O_RDONLY) as fd:
        end = os.fstat(fd).st_size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE) * 2:
            found.append(os.lseek(fd, found[-1], whence))
        with fails_with(errno.ENXIO):
            os.lseek(fd, found[-1], os.SEEK_DATA)
        with fails_with(errno.ENXIO):
            os.lseek(fd, end, os.SEEK_HOLE)
        assert os.lseek(fd, end - 1, os.SEEK_HOLE) in (end - 1, end)
    return found


@pytest.mark.parametrize(
    "where",
    [pytest.param("lower", marks=layers({"f": HOLES})), pytest.param("upper", marks=layers(upper={"f": HOLES}))],
)
def test_holes_are_found_on_every_layer(union: Union, tmp_path: Path, where: str) -> None:
    if union.deviates("seek-data-hole", kernel=True, ours=False):
        assert holes(union.merged / "f") == holes(plain_file(tmp_path, HOLES)), where
        with opened(union.merged / "f", os.O_RDWR) as fd:
            os.ftruncate(fd, 20 * KIB)  # the kernel fills some holes when it copies up
            os.pwrite(fd, b"z" * BLOCK, 32 * KIB)
            os.fsync(fd)
            assert os.lseek(fd, 20 * KIB, os.SEEK_DATA) == 32 * KIB


@layers({"f": HOLES})
@pytest.mark.mount_options("redirect_dir=on", "metacopy=on")
def test_holes_of_a_metadata_copy_are_those_of_its_data(own_union: Union, tmp_path: Path) -> None:
    (own_union.merged / "f").chmod(0o600)
    if own_union.deviates("seek-data-hole", kernel=True, ours=False):
        assert holes(own_union.merged / "f") == holes(plain_file(tmp_path, HOLES))
    assert (own_union.upper / "f").stat().st_blocks * 512 <= 2 * BLOCK


def direct_io(path: Path) -> list[object]:
    """Reads and writes by O_DIRECT, aligned first, with what each gave."""
    outcomes: list[object] = []
    memory = mmap.mmap(-1, 4 * BLOCK)  # as all maps, at the beginning of a page
    buffer = memoryview(memory)
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd:
        for offset in (0, BLOCK, len(DATA) - BLOCK, len(DATA)):
            outcomes.append((os.preadv(fd, [buffer[:BLOCK]], offset), memory[:BLOCK]))
        memory[:BLOCK] = b"w" * BLOCK
        outcomes += [os.pwritev(fd, [buffer[:BLOCK]], 2 * BLOCK), os.pwritev(fd, [buffer[:BLOCK]], len(DATA))]
        outcomes.append(os.fstat(fd).st_size)
        # Either address, offset or length is not what a disk wants.
        for begin, end, offset in ((100, 100 + BLOCK, 0), (0, BLOCK, 100), (0, 100, 0)):
            for call in (os.preadv, os.pwritev):
                outcomes.append(outcome(partial(call, fd, [buffer[begin:end]], offset)))
    return outcomes


@where
def test_direct_io_reads_and_writes_as_on_a_plain_file(union: Union, tmp_path: Path, where: str) -> None:
    plain = plain_file(tmp_path)
    expected, seen = direct_io(plain), direct_io(union.merged / "f")
    assert seen[:7] == expected[:7], where
    lengths = [BLOCK] * 4 + [100] * 2
    assert seen[7:] == union.deviates("direct-io-alignment", kernel=expected[7:], ours=lengths)
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        assert os.pread(fd, 2 * len(DATA), BLOCK + 100) == plain.read_bytes()[BLOCK + 100 :]
    assert (union.upper / "f").read_bytes() == (union.merged / "f").read_bytes()


@layers({"f": DATA})
def test_direct_io_of_readers_of_the_lower_file(union: Union) -> None:
    with mmap.mmap(-1, BLOCK) as memory, opened(union.merged / "f", os.O_RDONLY | os.O_DIRECT) as fd:
        assert os.preadv(fd, [memory], BLOCK) == BLOCK
        assert memory[:] == DATA[BLOCK : 2 * BLOCK]
        with opened(union.merged / "f", os.O_RDONLY) as cached:
            assert os.pread(cached, BLOCK, 2 * BLOCK) == DATA[2 * BLOCK : 3 * BLOCK]
    assert not union.is_copied_up("f")


@layers({"low": DATA, "other": b"other"}, upper={"up": DATA, "target": b"target"})
@pytest.mark.parametrize("target", ["other", "target", "new"])
@pytest.mark.parametrize("source", ["low", "up"])
def test_copies_between_the_layers(union: Union, source: str, target: str) -> None:
    before = (union.merged / target).read_bytes() if target != "new" else b""
    with (
        opened(union.merged / source, os.O_RDONLY) as reader,
        opened(union.merged / target, os.O_CREAT | os.O_RDWR) as writer,
    ):
        assert os.copy_file_range(reader, writer, BLOCK, 100, 3) == BLOCK
        os.lseek(reader, 0, os.SEEK_SET)
        os.lseek(writer, 0, os.SEEK_END)
        assert os.sendfile(writer, reader, None, BLOCK) == BLOCK
    expected = before[:3].ljust(3, b"\0") + DATA[100 : 100 + BLOCK] + DATA[:BLOCK]
    assert (union.merged / target).read_bytes() == (union.upper / target).read_bytes() == expected
    assert (union.merged / source).read_bytes() == DATA
    assert union.is_copied_up(source) is (source == "up")
