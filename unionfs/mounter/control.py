"""Talking to the daemon of a mount: the protocol of its control socket, and all of it that needs no event loop.

A stream socket in the mount's directory of the registry, for its owner and root only.  Each line is a JSON object: a request
``{"op": "status"}`` or ``{"op": "explain", "path": "etc/passwd"}`` gets one answer, ``{"ok": true, "result": …}`` or
``{"ok": false, "errno": 2, "error": "…"}``; any number of them in one connection.  The others are ``refresh``, ``add_layer``
(``path``, ``top``) and ``remove_layer`` (``path``), each with the ``layer_changes`` of the record it is based on, and
``snapshot`` (``name``), ``snapshot_rollback`` (``name``, ``discard``, ``force``), ``snapshot_merge`` (``numbers``,
``layer_changes``) and ``snapshot_rm`` (``number``, ``layer_changes``).  Bytes of paths that are not UTF-8 stand as lone
surrogates (``\\udcNN``), as `os.fsdecode` makes them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unionfs.mounter.errors import DaemonError
from unionfs.mounter.registry import CONTROL_SOCKET

MAX_LINE = 64 * 1024
"""Bytes.  A path has 4096 at most, each six characters long if it is not UTF-8."""

TIMEOUT = 10.0
"""Seconds that a client waits for the daemon, and the daemon for the next request of a connection."""


@contextmanager
def socket_address(directory: Path) -> Iterator[str]:
    """An address of the control socket in ``directory`` that is short enough: ``sun_path`` holds 108 bytes (unix(7)), paths
    more."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{CONTROL_SOCKET}"
    finally:
        os.close(fd)


def listen(directory: Path) -> socket.socket:
    """The listening socket in ``directory`` (0700, so that only its owner comes near it).

    Raises:
        OSError: as bind(2).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_address(directory) as address:
            listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def ask(directory: Path, operation: str, timeout: float = TIMEOUT, **arguments: object) -> Any:
    """The result of one request to the daemon whose directory in the registry is ``directory``.

    Raises:
        DaemonError: it does not answer within ``timeout`` seconds, or not in this protocol.
        OSError: what the daemon answered instead of a result.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            with socket_address(directory) as address:
                connection.connect(address)
            connection.sendall(encode({"op": operation, **arguments}))
            answer = _receive_line(connection)
    except TimeoutError:
        raise DaemonError(
            str(directory), f"the daemon did not answer within {timeout:g} s", "see its log (unionfs ls --json)"
        ) from None
    except OSError as error:
        raise DaemonError(
            str(directory), f"the daemon cannot be asked: {error.strerror}", "unionfs ls shows whether it is alive"
        ) from None
    if not answer.endswith(b"\n"):
        raise DaemonError(
            str(directory),
            "the process that was to answer has ended",
            "what it was asked may be done or not; look, and ask again",
        )
    return _result(directory, answer)


def _receive_line(connection: socket.socket) -> bytes:
    # Not limited to MAX_LINE: an answer may list hundreds of layers.
    received = bytearray()
    while not received.endswith(b"\n"):
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return bytes(received)


def _result(directory: Path, answer: bytes) -> Any:
    try:
        message = json.loads(answer)
        if message["ok"] is True:
            return message["result"]
        number, text = message["errno"], message["error"]
        if not isinstance(number, int) or not isinstance(text, str):
            raise TypeError("no error of the system")
        error = OSError(number, text)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DaemonError(
            str(directory), "the daemon's answer makes no sense", "is it of another version? unmount and mount anew"
        ) from None
    raise error


def encode(message: dict[str, object]) -> bytes:
    """One line of the protocol."""
    return json.dumps(message).encode("ascii") + b"\n"
