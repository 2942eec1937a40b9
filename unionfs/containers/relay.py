"""Standard input and output of a running container: to the log, to the command in the foreground, and back; until it has ended.

One thread, one loop.  Whoever reads slowly makes the container wait, as a pipe would: what is held for the command is bounded.
"""

from __future__ import annotations

import fcntl
import logging
import os
import selectors
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass

from unionfs.containers.container_log import LogWriter
from unionfs.containers.frames import SIZE, Decoder, Frame, Kind, encode

_log = logging.getLogger("unionfs.containers")

STOP_TIMEOUT = 10.0
"""Seconds between the stop signal and SIGKILL, as in docker."""

_PIECE = 1 << 16
_MOST_HELD = 1 << 20
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass(frozen=True)
class Streams:
    """The monitor's ends of a container's standard streams, which do not block: of pipes, or one terminal for all.  ``stdin`` is
    None where the container has none."""

    stdin: int | None
    stdout: int
    stderr: int | None

    @property
    def terminal(self) -> int | None:
        """The terminal, if it is one."""
        return self.stdout if self.stderr is None else None


class Relay:
    """Serves one container from its start to its end."""

    def __init__(
        self, pid: int, streams: Streams, log: LogWriter, stop_signal: signal.Signals, client: socket.socket | None
    ) -> None:
        """``pid``: the container's first process, a child of this one; ``client``: the command in the foreground, if there is
        one; its end is the container's, too."""
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._streams = streams
        self._log = log
        self._stop_signal = stop_signal
        self._client = client
        self._decoder = Decoder()
        self._to_client = bytearray()
        self._to_stdin = b""
        self._stdin_ends = False
        self._stdin = streams.stdin
        self._outputs = {streams.stdout: (Kind.OUTPUT, "stdout")}
        if streams.stderr is not None:
            self._outputs[streams.stderr] = (Kind.ERRORS, "stderr")
        self._wait_status: int | None = None
        self._kill_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._interests: dict[int, int] = {}

    def run(self) -> int:
        """Serve it; what waitpid(2) tells of its first process.  On return the standard streams are closed."""
        signals, wakes = socket.socketpair()
        signals.setblocking(False)
        wakes.setblocking(False)
        previous = signal.set_wakeup_fd(wakes.fileno())
        old_handler = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        try:
            self._selector.register(signals, _READ, lambda _events: self._on_signal(signals))
            self._selector.register(self._pidfd, _READ, lambda _events: self._on_end())
            while not self._is_over():
                self._choose()
                for key, events in self._selector.select(self._patience()):
                    key.data(events)
                self._kill_when_due()
        finally:
            signal.set_wakeup_fd(previous)
            signal.signal(signal.SIGTERM, old_handler)
            self._selector.close()
            signals.close()
            wakes.close()
            os.close(self._pidfd)
        assert self._wait_status is not None
        return self._wait_status

    def stop(self) -> None:
        """Ask the container to end, and let it be killed if it does not."""
        if self._kill_at is None and self._wait_status is None:
            signal.pidfd_send_signal(self._pidfd, self._stop_signal)
            self._kill_at = time.monotonic() + STOP_TIMEOUT

    def _is_over(self) -> bool:
        return self._wait_status is not None and not self._outputs and not (self._client and self._to_client)

    # -- what to wait for ---------------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        for fd in self._outputs:
            self._want(fd, _READ if len(self._to_client) < _MOST_HELD else 0, self._on_output_of(fd))
        if self._stdin is not None and self._stdin not in self._outputs:
            self._want(self._stdin, _WRITE if self._to_stdin else 0, lambda _events: self._feed())
        if self._client is not None:
            self._want(self._client.fileno(), _READ | (_WRITE if self._to_client else 0), self._on_client)

    def _want(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        if self._interests.get(fd, 0) == events:
            return
        if self._interests.get(fd, 0):
            self._selector.unregister(fd)
        if events:
            self._selector.register(fd, events, handler)
        self._interests[fd] = events

    def _drop(self, fd: int) -> None:
        if self._interests.pop(fd, 0):
            self._selector.unregister(fd)

    def _patience(self) -> float | None:
        return None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())

    def _kill_when_due(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at and self._wait_status is None:
            self._kill_at = None
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    # -- the container ------------------------------------------------------------------------------------------------------

    def _on_signal(self, signals: socket.socket) -> None:
        signals.recv(_PIECE)
        self.stop()

    def _on_end(self) -> None:
        _, self._wait_status = os.waitpid(self._pid, 0)
        self._kill_at = None
        self._selector.unregister(self._pidfd)

    def _on_output_of(self, fd: int) -> Callable[[int], None]:
        return lambda _events: self._on_output(fd)

    def _on_output(self, fd: int) -> None:
        kind, stream = self._outputs[fd]
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: nobody has the other end of the terminal any more
        if not data:
            self._close_output(fd)
            return
        try:
            self._log.write(stream, data)
        except OSError as error:
            _log.error("the log of a container lacks %d bytes: %s", len(data), error)
        self._send(kind, data)

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._drop(fd)
        if fd == self._stdin:
            self._stdin = None
        os.close(fd)

    # -- its input ----------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        assert self._stdin is not None
        try:
            self._to_stdin = self._to_stdin[os.write(self._stdin, self._to_stdin) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE: it has closed its input; what comes for it goes nowhere
            self._to_stdin = b""
            self._stdin_ends = True
        if not self._to_stdin:
            self._send(Kind.ACCEPTED)
            if self._stdin_ends:
                self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None and self._stdin not in self._outputs:
            self._drop(self._stdin)
            os.close(self._stdin)
            self._stdin = None

    def _on_input(self, data: bytes) -> None:
        if self._stdin is None:
            self._send(Kind.ACCEPTED)
        elif self._streams.terminal is not None:
            # A terminal takes what a person types at once; were it full, nobody reads what they type.
            self._type(data)
            self._send(Kind.ACCEPTED)
        else:
            self._to_stdin += data

    def _type(self, data: bytes) -> None:
        assert self._stdin is not None
        try:
            os.write(self._stdin, data)
        except OSError as error:  # EIO, EAGAIN
            _log.info("input for a terminal was dropped: %s", error)

    # -- the command --------------------------------------------------------------------------------------------------------

    def _send(self, kind: Kind, data: bytes = b"") -> None:
        if self._client is not None:
            self._to_client += encode(kind, data)

    def _on_client(self, events: int) -> None:
        assert self._client is not None
        try:
            if events & _WRITE and self._to_client:
                del self._to_client[: self._client.send(self._to_client)]
            if events & _READ:
                self._receive(self._client.recv(_PIECE))
        except BlockingIOError:
            return
        except OSError:  # ECONNRESET, EPIPE
            self._lose_client()

    def _receive(self, data: bytes) -> None:
        if not data:
            self._lose_client()
        for frame in self._decoder.feed(data):
            self._handle(frame)

    def _lose_client(self) -> None:
        assert self._client is not None
        self._drop(self._client.fileno())
        self._client = None
        self._to_client.clear()
        self._close_stdin()
        if self._streams.terminal in self._outputs:
            # Hangs up: a shell inside ends, though as the first process it has no ear for the stop signal.
            self._close_output(self._streams.terminal)
        self.stop()

    def _handle(self, frame: Frame) -> None:
        if frame.kind is Kind.INPUT:
            self._on_input(frame.data)
        elif frame.kind is Kind.END_OF_INPUT:
            self._stdin_ends = True
            if not self._to_stdin:
                self._close_stdin()
        elif frame.kind is Kind.SIGNAL:
            if self._wait_status is None:
                signal.pidfd_send_signal(self._pidfd, signal.Signals(int(frame.data)))
        elif frame.kind is Kind.SIZE and self._streams.terminal is not None and self._outputs:
            set_size(self._streams.terminal, frame.data)


def set_size(terminal: int, rows_and_columns: bytes) -> None:
    """Give a terminal a size (`frames.SIZE`); whoever works in it gets SIGWINCH.

    Raises:
        OSError: it is no terminal.
    """
    rows, columns = SIZE.unpack(rows_and_columns)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
