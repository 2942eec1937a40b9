"""The other end of the protocol: an engine that asks the plugin."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

LIMIT = 30.0
"""Seconds; what takes longer hangs."""


def connected(path: Path) -> socket.socket:
    """A connection to the socket at ``path``, however long that is.

    Raises:
        OSError: nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(LIMIT)
    directory = os.open(path.parent, os.O_PATH)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


def request(call: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    """A request as docker sends it."""
    return b"POST /%b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (call.encode(), headers, len(body), body)


def read_answer(connection: socket.socket) -> tuple[int, Any]:
    """The status and the body of an answer, after which the other end has closed."""
    with http.client.HTTPResponse(connection, method="POST") as response:
        response.begin()
        answer = response.read()
    assert connection.recv(1) == b""
    return response.status, json.loads(answer)


def ask(path: Path, call: str, **fields: object) -> tuple[int, Any]:
    """The status and the body of the answer to a call."""
    with connected(path) as connection:
        connection.sendall(request(call, json.dumps(fields).encode() + b"\n"))
        return read_answer(connection)


def mountpoint(path: Path, name: str, identifier: str) -> Path:
    """Mount a volume, which shall succeed; where it is."""
    status, answer = ask(path, "VolumeDriver.Mount", Name=name, ID=identifier)
    assert (status, answer["Err"]) == (200, "")
    return Path(answer["Mountpoint"])
