"""Serving: a process for each request.

Not a thread: to mount a volume may mean to fork the daemon of a union (`unionfs.mounter.daemon`), and of a process with threads
only half comes through a fork.  So requests do not wait for each other, one that hangs or crashes harms nobody else, and all that
is known is in the database: the server itself has nothing to lose when it is killed.
"""

from __future__ import annotations

import contextlib
import http
import json
import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from unionfs.adapters.volume_plugin.calls import Answer, Calls, our_volumes
from unionfs.adapters.volume_plugin.exchange import exchange
from unionfs.adapters.volume_plugin.peers import peer_of
from unionfs.store.store import open_store
from unionfs.volumes.upkeep import recover

_log = logging.getLogger("unionfs.adapters")

MOST_REQUESTS = 64
"""At a time; more are told to come again.  One that mounts from a server that does not answer may take for ever."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)

_BUSY = json.dumps({"Err": f"unionfs volume plugin: {MOST_REQUESTS} requests are being carried out; try again"}).encode()
_REFUSAL = b"HTTP/1.1 %d Busy\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"

Answering = Callable[[socket.socket], None]


def serve(listener: socket.socket, root: Path | None) -> None:
    """Answer on ``listener`` with the volumes of the store at ``root`` (None: the usual one) until SIGTERM or SIGINT; what is
    being carried out then is finished.

    Raises:
        StoreError, OSError: the store cannot be used.
    """
    with open_store(root) as store:
        # Mounts that a process was making when it was killed.  No use of an engine is over because we begin.
        recover(our_volumes(store), lambda _: False)

    def answer(connection: socket.socket) -> None:
        peer = peer_of(connection)

        def carry(call: str, body: Mapping[str, object]) -> Answer:
            with open_store(root) as opened:
                return Calls(our_volumes(opened), peer).answer(call, body)

        exchange(connection, carry)

    Server(listener, answer).run()


class Server:
    """Lets ``answer`` have each connection to ``listener``, in a process of its own."""

    def __init__(self, listener: socket.socket, answer: Answering) -> None:
        self._listener = listener
        self._answer = answer
        self._children: set[int] = set()

    def run(self) -> None:
        """Until a signal says to stop; returns when all that had begun has ended.  The listener is closed then: whoever connects
        meanwhile is refused, or waits for the next server where systemd has the socket too."""
        self._listener.setblocking(False)
        with _watched_signals() as signals:
            while not signals.is_stopping:
                signals.wait_for(self._listener)
                self._reap(os.WNOHANG)
                self._accept(signals)
        self._listener.close()
        while self._children:
            self._reap(0)

    def _accept(self, signals: _Signals) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        with connection:
            if len(self._children) >= MOST_REQUESTS:
                _refuse(connection)
                return
            try:
                child = os.fork()
            except OSError as error:
                _log.warning("a request is refused: %s", error)
                _refuse(connection)
                return
            if child == 0:
                self._become_child(connection, signals)
            self._children.add(child)

    def _become_child(self, connection: socket.socket, signals: _Signals) -> NoReturn:
        status = 1
        try:
            self._listener.close()
            signals.forget()
            _kept_from_daemons.append(connection)
            connection.setblocking(True)
            self._answer(connection)
            status = 0
        except Exception:
            _log.exception("a request failed")
        finally:
            os._exit(status)

    def _reap(self, flags: int) -> None:
        for child in list(self._children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, flags)[0] == 0:
                    continue
            self._children.discard(child)


def _refuse(connection: socket.socket) -> None:
    connection.setblocking(False)  # the client that does not take these few bytes has not even begun
    with contextlib.suppress(OSError):
        connection.send(_REFUSAL % (http.HTTPStatus.SERVICE_UNAVAILABLE, len(_BUSY), _BUSY))


# -- what the forked do not keep ----------------------------------------------------------------------------------------

_kept_from_daemons: list[socket.socket] = []
"""The connection of this process.  The daemon of a union that is mounted on request is forked and lives on: it would keep the
client waiting for the end of the connection."""


def _close_kept() -> None:
    for connection in _kept_from_daemons:
        connection.close()
    _kept_from_daemons.clear()


os.register_at_fork(after_in_child=_close_kept)


# -- signals --------------------------------------------------------------------------------------------------------------


class _Signals:
    """Those that the server waits for besides connections: bytes that come through a pipe, so no handler interrupts anything."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = {number: signal.signal(number, lambda *_: None) for number in (*_STOPPING, signal.SIGCHLD)}
        # A full pipe has a signal in it already.
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self.is_stopping = False

    def wait_for(self, listener: socket.socket) -> None:
        """Return when there may be a connection, or when a signal has come."""
        ready, _, _ = select.select([listener.fileno(), self._reading], [], [])
        if self._reading in ready:
            self.is_stopping = self.is_stopping or any(number in _STOPPING for number in os.read(self._reading, 4096))

    def close(self) -> None:
        """Let them mean again what they meant before."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def forget(self) -> None:
        """In the process of a request, which is finished whatever becomes of the server; a terminal's ctrl-C is for that."""
        os.setpgid(0, 0)
        self._before = dict.fromkeys(self._before, signal.SIG_DFL)
        self.close()


@contextlib.contextmanager
def _watched_signals() -> Iterator[_Signals]:
    signals = _Signals()
    try:
        yield signals
    finally:
        signals.close()
