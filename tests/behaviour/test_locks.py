"""Locks between processes: flock(2), POSIX record locks and open file description locks."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from .process import in_child
from .syscalls import opened
from .union import Union

layers = pytest.mark.layers

where = pytest.mark.parametrize(
    "where",
    [pytest.param("lower", marks=layers({"f": b"x" * 100})), pytest.param("upper", marks=layers(upper={"f": b"x" * 100}))],
)


def record(kind: int, start: int, length: int) -> bytes:
    """struct flock of fcntl(2) for 64-bit offsets: type, whence, start, length, pid."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def is_refused(take: Callable[[int], object], directory: Path) -> bool:
    """Whether another process that opens ``f`` cannot take a lock."""

    def attempt() -> bool:
        with opened(Path("f"), os.O_RDWR) as fd:
            try:
                take(fd)
            except BlockingIOError:
                return True
            return False

    return bool(in_child(attempt, cwd=directory))


@where
def test_flock_excludes_another_process(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert is_refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), union.merged), where
        assert is_refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB), union.merged)
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert not is_refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB), union.merged)
        fcntl.flock(fd, fcntl.LOCK_UN)
        assert not is_refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), union.merged)


@where
def test_flock_ends_with_the_descriptor(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
    assert not is_refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), union.merged), where


@where
def test_posix_locks_are_for_byte_ranges(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
        assert is_refused(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25), union.merged), where
        assert is_refused(lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 20), union.merged)
        assert not is_refused(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0), union.merged)
        assert not is_refused(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 30), union.merged)
        fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
        assert not is_refused(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25), union.merged)


@where
def test_holder_of_a_posix_lock_can_be_asked_for(union: Union, where: str) -> None:
    def holder() -> tuple[int, int]:
        with opened(Path("f"), os.O_RDWR) as fd:
            answer = fcntl.fcntl(fd, fcntl.F_GETLK, record(fcntl.F_WRLCK, 0, 0))
            kind, _, _, _, pid = struct.unpack("hhqqi4x", answer)
            return kind, pid

    with opened(union.merged / "f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        assert in_child(holder, cwd=union.merged) == (fcntl.F_WRLCK, os.getpid()), where


@where
def test_open_file_description_locks_exclude_each_other_in_one_process(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as one, opened(union.merged / "f", os.O_RDWR) as two:
        fcntl.fcntl(one, fcntl.F_OFD_SETLK, record(fcntl.F_WRLCK, 0, 10))
        with pytest.raises(BlockingIOError, match="temporarily unavailable"):
            fcntl.fcntl(two, fcntl.F_OFD_SETLK, record(fcntl.F_WRLCK, 5, 10))
        fcntl.fcntl(two, fcntl.F_OFD_SETLK, record(fcntl.F_WRLCK, 10, 10))
        fcntl.fcntl(one, fcntl.F_OFD_SETLK, record(fcntl.F_UNLCK, 0, 0))
        fcntl.fcntl(two, fcntl.F_OFD_SETLK, record(fcntl.F_WRLCK, 0, 0))
    assert not is_refused(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), union.merged), where


@layers({"f": b"x"})
def test_lock_taken_before_copy_up_excludes_who_opens_after_it(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.chmod(union.merged / "f", 0o600)
        refused = is_refused(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), union.merged)
        assert refused == union.deviates("locks-over-copy-up", kernel=True, ours=False)


def test_lock_that_is_waited_for_is_given(union: Union) -> None:
    """The waiter is another process; it reports once it has the lock, which it can only have after our unlock."""
    (union.merged / "f").touch()
    receive, send = os.pipe()
    with opened(union.merged / "f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        pid = os.fork()
        if pid == 0:
            try:
                with opened(union.merged / "f", os.O_RDWR) as own:
                    os.write(send, b"w")
                    fcntl.lockf(own, fcntl.LOCK_EX)
                    os.write(send, (union.merged / "f").read_bytes())
                os._exit(0)
            finally:
                os._exit(1)
        assert os.read(receive, 1) == b"w"
        os.write(fd, b"released")
        fcntl.lockf(fd, fcntl.LOCK_UN)
        assert os.read(receive, 20) == b"released"
        assert os.waitpid(pid, 0)[1] == 0
    os.close(receive)
    os.close(send)
