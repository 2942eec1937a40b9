"""The ``unionfs`` command without what takes longest in most of its runs: the start of an interpreter and the imports.

`run` lets a process that has loaded everything (`tests.preloaded_server`) fork, and the forked one runs the command: a process of
its own with the arguments, environment, directory, umask, limits and streams that a started one would have.  What differs: its
``/proc/PID/cmdline`` is the server's, and modules are loaded before it begins.  Tests to which that matters run
the program itself (`tests.programs`).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path

from tests.preloaded_server import MAX_REQUEST, Request
from tests.programs import TIMEOUT, UNIONFS, Ended, no_end, text

ROOT = Path(__file__).parents[1]

_NUMBER = 32
"""Bytes that are enough for one."""


class _Server:
    """The server of one process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.preloaded_server", str(theirs.fileno())]
            # Not a terminal, which Python would set up its stdout for: commands get a pipe there.
            # Room for the environments that /proc shall show of its children.
            environment = os.environ | {"ROOM": "-" * MAX_REQUEST}
            files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "pass_fds": [theirs.fileno()]}
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, **files)

    def ask(self, request: Request, descriptors: Sequence[int]) -> socket.socket:
        """Have a command started; a socket that gets its process id, and its exit status when it has ended."""
        message = json.dumps(request).encode()
        assert len(message) <= MAX_REQUEST, "run this one by tests.programs"
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [message], [*descriptors, theirs.fileno()])
        return answers

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)  # for those who have it as well: a process that a test forked and forgot
        self._socket.close()
        self._process.wait()


_servers: list[_Server] = []
"""The last one is of this process, or of one that has forked this one: that may be another user's, or in other namespaces."""

_turn = threading.Lock()


def _server() -> _Server:
    with _turn:
        if not _servers or _servers[-1].owner != os.getpid():
            _servers.append(_Server())
        return _servers[-1]


def end() -> None:
    """End the server of this process, if it has one.  Daemons that its commands have started go on."""
    if _servers and _servers[-1].owner == os.getpid():
        _servers.pop().end()


def run(arguments: Sequence[str | Path], *, limit: float = TIMEOUT, environment: Mapping[str, str] | None = None) -> Ended:
    """Run ``unionfs`` to its end, which includes that of its stdout and stderr, as `tests.programs.run` does; it reads nothing.

    Raises:
        ProgramFailedError: no end in ``limit`` seconds.
    """
    command = [os.fspath(word) for word in (UNIONFS, *arguments)]
    request = Request(command, dict(os.environ if environment is None else environment), _umask(), os.getpid())
    stdout, their_stdout = os.pipe()
    stderr, their_stderr = os.pipe()
    with FileIO(stdout) as out, FileIO(stderr) as err:
        streams = FileIO(os.devnull), FileIO(their_stdout, "w"), FileIO(their_stderr, "w")
        directory = os.open(".", os.O_PATH)  # which may have no name any more
        try:
            answers = _server().ask(request, [*(stream.fileno() for stream in streams), directory])
        finally:
            os.close(directory)
            for stream in streams:
                stream.close()
        with answers:
            return _wait(command, (out, err), answers, limit)


def _wait(command: list[str], outputs: tuple[FileIO, FileIO], answers: socket.socket, limit: float) -> Ended:
    deadline = time.monotonic() + limit
    process = int(answers.recv(_NUMBER))
    written = {output.fileno(): b"" for output in outputs}
    try:
        with selectors.DefaultSelector() as selector:
            for fd in written:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(deadline - time.monotonic())
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    chunk = os.read(key.fd, 1 << 16)
                    written[key.fd] += chunk
                    if not chunk:
                        selector.unregister(key.fd)
        answers.settimeout(max(0.1, deadline - time.monotonic()))
        status = int(answers.recv(_NUMBER))
    except TimeoutError:
        os.kill(process, signal.SIGKILL)
        answers.settimeout(None)
        answers.recv(_NUMBER)
        raise no_end(command, limit, *written.values()) from None
    return Ended(status, *map(text, written.values()))


def _umask() -> int:
    """That of this process; umask(2) would have to change it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:"))
    return int(line.split()[1], 8)
