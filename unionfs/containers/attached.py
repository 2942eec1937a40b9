"""The command in the foreground: hands its standard streams, its signals and the size of its terminal on to the monitor of a
container."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator

from unionfs.containers.frames import SIZE, Decoder, Frame, Kind, encode
from unionfs.containers.runtime import RuntimeFailedError
from unionfs.store.errors import StoreError

_PIECE = 1 << 16
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_INSISTS = 3
"""So many times ctrl-C (or SIGTERM) mean SIGKILL: the first process of a container has no signal that ends it unless it wants
to."""


class Attachment:
    """One container in the foreground."""

    def __init__(self, monitor: int, connection: socket.socket, *, has_stdin: bool, is_terminal: bool) -> None:
        """``monitor``: its process id, a child of this one."""
        self._monitor = monitor
        self._pidfd = os.pidfd_open(monitor)
        self._connection = connection
        self._decoder = Decoder()
        self._is_terminal = is_terminal
        self._reads_stdin = has_stdin
        self._may_send = has_stdin
        self._has_started = False
        self._stops = 0
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve it; its exit status, when nothing is left of it but what shall stay.

        Raises:
            StoreError: it could not begin, or its monitor was killed.
            BrokenPipeError: nobody reads our output.  The monitor then ends the container.
        """
        with (
            _signals((*_FORWARDED, *((signal.SIGWINCH,) if self._is_terminal else ()))) as wakes,
            contextlib.ExitStack() as at_end,
        ):
            while self._exit_code is None:
                was_started = self._has_started
                for fd in self._ready(wakes):
                    self._on(fd, wakes)
                if self._is_terminal and self._has_started and not was_started:
                    at_end.enter_context(raw_terminal())
        if self._exit_code != 128 + signal.SIGHUP or not self._is_terminal:
            os.waitpid(self._monitor, 0)
        return self._exit_code

    def _ready(self, wakes: int) -> list[int]:
        poll = select.poll()
        poll.register(wakes, select.POLLIN)
        poll.register(self._connection, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        if self._may_send and self._reads_stdin and self._has_started:
            poll.register(0, select.POLLIN)
        ready = _ready_or_last_words(poll, self._connection, self._pidfd)
        if self._pidfd in ready and self._connection.fileno() not in ready:
            # It has ended, and its last words are read.  The socket itself tells nothing: the mount's daemon has it too.
            raise _monitor_killed(self._monitor)
        return [fd for fd in ready if fd != self._pidfd]

    def _on(self, fd: int, wakes: int) -> None:
        if fd == wakes:
            for number in os.read(wakes, _PIECE):
                self._on_signal(signal.Signals(number))
        elif fd == 0:
            self._on_stdin()
        else:
            self._receive()

    def _receive(self) -> None:
        for frame in self._decoder.feed(_receive(self._connection, self._monitor)):
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        if frame.kind is Kind.OUTPUT:
            _write(1, frame.data)
        elif frame.kind is Kind.ERRORS:
            _write(2, frame.data)
        elif frame.kind is Kind.ACCEPTED:
            self._may_send = True
        elif frame.kind is Kind.STARTED:
            self._has_started = True
        elif frame.kind is Kind.FAILED:
            raise failure(frame.data)
        elif frame.kind is Kind.ENDED:
            self._exit_code = int(frame.data)

    def _on_stdin(self) -> None:
        data = os.read(0, _PIECE)
        if data:
            self._may_send = False
            self._send(Kind.INPUT, data)
        else:
            self._reads_stdin = False
            self._send(Kind.END_OF_INPUT)

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGWINCH:
            self._send(Kind.SIZE, SIZE.pack(*terminal_size()))
            return
        if number is signal.SIGHUP and self._is_terminal:
            # The terminal has gone, and the container with it: the monitor ends it when this connection does.
            self._exit_code = 128 + signal.SIGHUP
            return
        if number in (signal.SIGINT, signal.SIGTERM):
            self._stops += 1
            if self._stops >= _INSISTS:
                number = signal.SIGKILL
        self._send(Kind.SIGNAL, b"%d" % number)

    def _send(self, kind: Kind, data: bytes = b"") -> None:
        # The monitor may just be ending: then its last words are read next.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(encode(kind, data))


def wait_until_started(monitor: int, connection: socket.socket) -> str:
    """For a container in the background: its ID, when it runs.

    Raises:
        StoreError: it could not begin, or its monitor was killed.
    """
    decoder = Decoder()
    pidfd = os.pidfd_open(monitor)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    try:
        while connection.fileno() in _ready_or_last_words(poll, connection, pidfd):
            for frame in decoder.feed(_receive(connection, monitor)):
                if frame.kind is Kind.STARTED:
                    return frame.data.decode()
                if frame.kind is Kind.FAILED:
                    raise failure(frame.data)
    finally:
        os.close(pidfd)
    raise _monitor_killed(monitor)


def _ready_or_last_words(poll: select.poll, connection: socket.socket, pidfd: int) -> list[int]:
    """Which are ready; ``pidfd`` without ``connection`` only where the monitor has ended and all it said is read."""
    ready = [fd for fd, _ in poll.poll()]
    if pidfd in ready and connection.fileno() not in ready:
        # poll(2) looks at one after the other: between the two the monitor may have said its last words and ended.
        ready = [fd for fd, _ in poll.poll(0)]
    return ready


def _receive(connection: socket.socket, monitor: int) -> bytes:
    try:
        data = connection.recv(_PIECE)
    except ConnectionResetError:
        data = b""
    if not data:
        raise _monitor_killed(monitor)
    return data


def _monitor_killed(monitor: int) -> StoreError:
    return StoreError(f"process {monitor}", "the monitor of the container was killed", "clean up with: unionfs ps")


def failure(data: bytes) -> RuntimeFailedError:
    """What a frame FAILED says, as an exception."""
    thing, problem, remedy, status = json.loads(data)
    return RuntimeFailedError(thing, problem, remedy, status)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the terminal on standard input.

    Raises:
        OSError: there is none.
    """
    size = os.get_terminal_size(0)
    return size.lines, size.columns


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """The terminal on standard input hands over everything as it is typed, ctrl-C too."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSANOW, before)  # not DRAIN: nobody may be reading what we wrote


@contextlib.contextmanager
def _signals(numbers: tuple[signal.Signals, ...]) -> Iterator[int]:
    """A descriptor that gives the numbers of these signals as they come, but for those that whoever started us has ignored.

    After a good end SIGINT stays ignored: a ctrl-C too many would only take the container's exit status from this process.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = signal.set_wakeup_fd(sender)
    old = {number: signal.signal(number, lambda _number, _frame: None) for number in wanted}
    try:
        yield receiver
        if signal.SIGINT in old:
            old[signal.SIGINT] = signal.SIG_IGN
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous)
        os.close(receiver)
        os.close(sender)


def _write(fd: int, data: bytes) -> None:
    (sys.stdout if fd == 1 else sys.stderr).flush()
    while data:
        data = data[os.write(fd, data) :]
