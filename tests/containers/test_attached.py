"""The command in the foreground and the end of its monitor."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from unionfs.containers import attached
from unionfs.containers.attached import Attachment, wait_until_started
from unionfs.containers.frames import Kind, encode


class MonitorWithLateWords:
    """Says its last words and ends when poll(2) has looked at the connection already, but not yet at the process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self.connection, self._end = socket.socketpair()
        self.words = b""

    def end(self) -> None:
        self._end.sendall(self.words)
        assert self._process.stdin is not None
        self._process.stdin.close()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        self.connection.close()
        self._end.close()


@pytest.fixture(autouse=True)
def _ctrl_c_reaches_the_next_test() -> Iterator[None]:
    """After a good end SIGINT stays ignored: the process of a command has nothing else to do then."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[MonitorWithLateWords]:
    real_poll = select.poll
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        monitor = MonitorWithLateWords(process)
        has_ended = False

        class Poll:
            def __init__(self) -> None:
                self._poll = real_poll()
                self._last = -1

            def register(self, fd: int | socket.socket, events: int) -> None:
                self._last = fd if isinstance(fd, int) else fd.fileno()
                self._poll.register(fd, events)

            def poll(self, *timeout: int) -> list[tuple[int, int]]:
                nonlocal has_ended
                if has_ended:
                    return self._poll.poll(*timeout)
                has_ended = True
                monitor.end()
                return [(self._last, select.POLLIN)]

        monkeypatch.setattr(attached.select, "poll", Poll)
        try:
            yield monitor
        finally:
            monitor.close()


def test_an_exit_status_that_a_monitor_tells_and_ends_is_not_missed(monitor: MonitorWithLateWords) -> None:
    monitor.words = encode(Kind.ENDED, b"137")
    assert Attachment(monitor.pid, monitor.connection, has_stdin=False, is_terminal=False).run() == 137


def test_a_start_that_a_monitor_tells_and_ends_is_not_missed(monitor: MonitorWithLateWords) -> None:
    monitor.words = encode(Kind.STARTED, b"the id")
    assert wait_until_started(monitor.pid, monitor.connection) == "the id"
