"""Making the standard streams of a container: pipes, or a terminal that the runtime makes inside it and hands over."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from unionfs.containers.relay import Streams

_SOCKET = "console.sock"


class Pipes:
    """Pipes for standard input (if wanted), output and error; without the first it is /dev/null."""

    def __init__(self, has_stdin: bool) -> None:
        stdin, ours = os.pipe() if has_stdin else (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), None)
        stdout, out = os.pipe()
        stderr, err = os.pipe()
        self.theirs = (stdin, out, err)
        """What the container gets."""
        self.ours = Streams(ours, stdout, stderr)
        """What the monitor keeps."""

    def give_away(self) -> None:
        """The container has its ends: close them here, so that their last user ends them."""
        for fd in self.theirs:
            os.close(fd)
        _do_not_block(self.ours)


def _do_not_block(streams: Streams) -> None:
    for fd in (streams.stdin, streams.stdout, streams.stderr):
        if fd is not None:
            os.set_blocking(fd, False)


@contextlib.contextmanager
def console_socket(directory: Path) -> Iterator[tuple[socket.socket, Path]]:
    """A socket in the container's ``directory`` that a runtime can send a terminal to, and its path.

    The path goes through /proc: that of a store may be longer than the name of a socket can be (108 bytes, unix(7)).
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = Path(f"/proc/{os.getpid()}/fd/{fd}/{_SOCKET}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            try:
                listener.listen(1)
                yield listener, path
            finally:
                path.unlink()
    finally:
        os.close(fd)


def receive_terminal(listener: socket.socket, has_stdin: bool) -> Streams:
    """The terminal that the runtime has sent, after its ``create`` succeeded.

    Raises:
        OSError: it sent none.
    """
    listener.setblocking(False)  # it has been sent by now, or never is
    connection, _ = listener.accept()
    with connection:
        _, descriptors, _, _ = socket.recv_fds(connection, 1 << 12, 1)
    if not descriptors:
        raise ConnectionError("the runtime sent no terminal")
    (terminal,) = descriptors
    os.set_inheritable(terminal, False)
    os.set_blocking(terminal, False)
    return Streams(terminal if has_stdin else None, terminal, None)
