"""`unionfs run -it`: a real terminal inside, of the size of the one outside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine
from tests.programs import TIMEOUT, wait_until
from unionfs.mounter.processes import is_running


class Terminal:
    """``unionfs`` on a terminal of its own."""

    def __init__(self, engine: Engine, *arguments: str) -> None:
        command = engine.command(*arguments)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], [str(word) for word in command], engine.environment)  # noqa: S606
        self.resize(33, 99)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, text: str) -> None:
        """Read until ``text`` has come."""
        deadline = time.monotonic() + TIMEOUT
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096)
        self.seen = self.seen.partition(text.encode())[2]

    def end(self) -> int:
        """Read to the end; the exit status."""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while os.read(self.fd, 4096):
                pass
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def terminal(engine: Engine) -> Iterator[Terminal]:
    opened = Terminal(engine, "run", "--rm", "-it", "--hostname", "inside", "box", "sh", "-c", "stty -echo; echo up; exec sh")
    opened.expect("up")
    yield opened
    os.close(opened.fd)


def test_the_container_has_a_terminal_of_the_right_size_and_follows_its_changes(terminal: Terminal, engine: Engine) -> None:
    terminal.type("stty size\n")
    terminal.expect("33 99")
    terminal.resize(20, 50)
    terminal.type("while [ \"$(stty size)\" != '20 50' ]; do :; done; echo resized$((40+2)); exit 5\n")
    terminal.expect("resized42")
    assert terminal.end() == 5
    assert engine.leftovers() == []


def test_ctrl_c_reaches_the_program_in_the_container_only(terminal: Terminal) -> None:
    terminal.type("sh -c 'echo asleep$((40+2)); exec sleep 1000'\n")
    terminal.expect("asleep42")  # not in what was typed, which the shell shows too
    terminal.type("\x03")
    # On a line of its own: a shell gives up the rest of one whose program is interrupted.
    terminal.type("echo status$((40+2)) $?\n")
    terminal.expect("status42 130")
    terminal.type("exit\n")
    terminal.end()


def test_the_terminal_is_raw_while_the_container_runs_and_as_before_afterwards(engine: Engine) -> None:
    outer, inner = pty.openpty()
    try:
        before = termios.tcgetattr(inner)
        with engine.started("run", "--rm", "-it", "box", "sh", "-c", "read line; exit 3", stdin=inner) as process:
            wait_until(lambda: not termios.tcgetattr(inner)[3] & termios.ICANON)
            os.write(outer, b"line\r")
            assert process.wait(TIMEOUT) == 3
        assert termios.tcgetattr(inner) == before
    finally:
        os.close(outer)
        os.close(inner)


def test_a_terminal_that_goes_away_takes_its_container_along(terminal: Terminal, engine: Engine) -> None:
    monitor = engine.monitor_of(engine.containers()[0]["id"])
    os.kill(terminal.pid, signal.SIGHUP)
    assert terminal.end() == 128 + signal.SIGHUP
    wait_until(lambda: not is_running(*monitor))
    assert engine.leftovers() == []


def test_exec_has_a_terminal_too(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "base", "box", "sleep", "1000")
    terminal = Terminal(engine, "exec", "-it", "base", "sh", "-c", "stty -echo; echo up; read line; echo got $line; exit 6")
    try:
        terminal.expect("up")
        terminal.type("this\n")
        terminal.expect("got this")
        assert terminal.end() == 6
    finally:
        os.close(terminal.fd)
