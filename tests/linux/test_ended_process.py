"""A process whose main thread has ended before others of it."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import wait_until
from unionfs.linux import ended_process
from unionfs.linux.ended_process import only_writes_to, status_of_ended

_SYS_EXIT = {"x86_64": 60}.get(os.uname().machine, 93)  # include/uapi/asm-generic/unistd.h


@pytest.fixture
def left_thread() -> Iterator[tuple[int, str]]:
    """A child whose main thread is gone, and what its other thread waits to read."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=os.read, args=(receiver, 1)).start()
        ctypes.CDLL(None).syscall(_SYS_EXIT, 3)
        os._exit(1)
    yield pid, os.readlink(f"/proc/self/fd/{receiver}")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(receiver)
    os.close(sender)


def test_end_of_the_main_thread_is_seen_though_wait_does_not_tell_of_it(left_thread: tuple[int, str]) -> None:
    pid, _ = left_thread
    wait_until(lambda: status_of_ended(pid) is not None, "the end of the main thread")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    status = status_of_ended(pid)
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == 3


def test_what_the_threads_that_are_left_wait_for_is_seen(left_thread: tuple[int, str]) -> None:
    pid, pipe = left_thread
    wait_until(lambda: status_of_ended(pid) is not None, "the end of the main thread")
    wait_until(lambda: only_writes_to(pipe, pid), "its other thread in a call on the pipe")
    assert not only_writes_to("/dev/fuse", pid)


def test_no_file_is_opened_as_long_as_the_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that begins closes all descriptors that it does not know, and it shares them with whoever asks."""

    def opened(_path: Path) -> list[bytes]:
        raise AssertionError("opened")

    monkeypatch.setattr(ended_process, "stat_fields", opened)
    assert status_of_ended(os.getpid()) is None


def test_reaped_process_has_no_status() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert status_of_ended(pid) is None
