"""The daemon's end of the control socket (made by `unionfs.mounter.control.listen`): answering."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from unionfs.mounter.control import MAX_LINE, TIMEOUT, encode

_log = logging.getLogger("unionfs.mounter")

Handler = Callable[[dict[str, Any]], Awaitable[object]]
"""Answers one request with something JSON-able, or raises OSError."""

_UCRED = struct.Struct("iII")  # unix(7): pid, uid, gid
_MAX_CONNECTIONS = 32


async def serve(listener: socket.socket, handlers: Mapping[str, Handler]) -> None:
    """Answer requests by ``handlers`` (operation -> handler) until cancelled."""
    limiter = trio.CapacityLimiter(_MAX_CONNECTIONS)

    async def serve_connection(stream: trio.SocketStream) -> None:
        async with limiter, stream:
            if _is_owner(stream):
                await _serve_requests(stream, handlers)

    await trio.serve_listeners(serve_connection, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])


def _is_owner(stream: trio.SocketStream) -> bool:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return uid in (0, os.geteuid())


async def _serve_requests(stream: trio.SocketStream, handlers: Mapping[str, Handler]) -> None:
    received = bytearray()
    try:
        while True:
            with trio.fail_after(TIMEOUT):
                line = await _receive_line(stream, received)
            if line is None:
                return
            # Not limited: it takes what it takes, and nobody may cut it off half-way.
            answer = encode(await _answer(line, handlers))
            with trio.fail_after(TIMEOUT):
                await stream.send_all(answer)
    except (trio.BrokenResourceError, trio.TooSlowError):
        return  # a client that went away or fell silent harms nobody


async def _receive_line(stream: trio.SocketStream, received: bytearray) -> bytes | None:
    """The next line; ``received`` keeps what came after it.  None at the end, and where a line is longer than any request."""
    while (end := received.find(b"\n")) < 0:
        if len(received) > MAX_LINE:
            return None
        chunk = await stream.receive_some()
        if not chunk:
            return None
        received += chunk
    line = bytes(received[:end])
    del received[: end + 1]
    return line


async def _answer(line: bytes, handlers: Mapping[str, Handler]) -> dict[str, object]:
    try:
        request = json.loads(line)
        handler = handlers[request["op"]]
    except (ValueError, KeyError, TypeError, RecursionError):  # the last one: of brackets in brackets
        return _failure(errno.EINVAL, f"not a request; operations are {', '.join(handlers)}")
    try:
        return {"ok": True, "result": await handler(request)}
    except OSError as error:
        return _failure(error.errno or errno.EIO, error.strerror or str(error))
    except Exception:
        # The mount must not die of a question about it.
        _log.exception("control request %r failed", request["op"])
        return _failure(errno.EIO, "internal error; the log has it")


def _failure(number: int, text: str) -> dict[str, object]:
    return {"ok": False, "errno": number, "error": text}
