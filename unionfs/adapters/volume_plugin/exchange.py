"""One request over HTTP, and its answer.

What docker and podman send differs (a type of content or none, an empty body or ``{}``), so nothing but the path and the body
counts.  An error is ``{"Err": "…"}`` with status 500, which docker shows to its user; what is no request at all gets a 4xx.
Each connection carries one request: nobody waits for the next one, and nothing is left open when the server ends.
"""

from __future__ import annotations

import contextlib
import http
import io
import json
import logging
import socket
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from unionfs.adapters.volume_plugin.calls import Answer, MalformedCallError, UnknownCallError
from unionfs.mounter.errors import MounterError, from_os_error, printable

_log = logging.getLogger("unionfs.adapters")

PATIENCE = 10.0
"""Seconds that a client has for its whole request, and again for taking the answer."""

_LONGEST_LINE = 65536
_LARGEST_BODY = 1024 * 1024

_MEDIA_TYPE = "application/vnd.docker.plugins.v1.2+json"

Carry = Callable[[str, Mapping[str, object]], Answer]
"""Carries out a call; see `Calls.answer`."""


class _RefusedError(Exception):
    """No request that could be carried out; a 4xx."""

    def __init__(self, status: http.HTTPStatus, problem: str) -> None:
        super().__init__(problem)
        self.status = status


def exchange(connection: socket.socket, carry: Carry, patience: float = PATIENCE) -> None:
    """Read a request from ``connection``, carry it out and answer, within ``patience`` seconds apart from carrying it out.  A
    client that goes away is nobody's error."""
    # The other end may be gone at any point, and with it whoever would want to know.
    with contextlib.suppress(ConnectionError, TimeoutError):
        _Handler(connection, carry, patience)


class _Reader(io.RawIOBase):
    """What comes from a socket until a moment that is the same for all of it: who sends a byte now and then ends too."""

    def __init__(self, connection: socket.socket, patience: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """Parses by way of the standard library; the rest is ours, above all the answers to what is wrong."""

    protocol_version = "HTTP/1.1"
    default_request_version = protocol_version  # of what names none; the base class would answer to HTTP/0.9 without a head
    server_version = "unionfs"
    sys_version = ""

    def __init__(self, connection: socket.socket, carry: Carry, patience: float) -> None:
        self._carry = carry
        self._patience = patience
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # the address is for logs, the server for nothing

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Reader(self.connection, self._patience))

    def handle(self) -> None:
        self.close_connection = True
        try:
            if not self._read_head():
                return
            status, answer = self._carried_out(self._read_body())
        except TimeoutError:
            self.send_error(http.HTTPStatus.REQUEST_TIMEOUT)
        except _RefusedError as refused:
            self.send_error(refused.status, str(refused))
        else:
            self._send(status, answer)

    def _read_head(self) -> bool:
        """False: nothing came, or it was no head of a request and is answered."""
        self.command, self.requestline, self.request_version = "", "", self.protocol_version
        self.raw_requestline = self.rfile.readline(_LONGEST_LINE + 1)
        if len(self.raw_requestline) > _LONGEST_LINE:
            raise _RefusedError(http.HTTPStatus.REQUEST_URI_TOO_LONG, "the first line is too long")
        return bool(self.raw_requestline) and self.parse_request()

    def _read_body(self) -> Mapping[str, object]:
        if self.command != "POST":
            raise _RefusedError(http.HTTPStatus.METHOD_NOT_ALLOWED, "all calls are POST")
        if "Transfer-Encoding" in self.headers:
            raise _RefusedError(http.HTTPStatus.LENGTH_REQUIRED, "give Content-Length")
        body = self._read_exactly(self._length())
        if not body.strip():
            return {}
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST, "the body must be an object")
        return found

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "0").strip()
        if not (text.isascii() and text.isdigit()):
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST, "Content-Length must be a number")
        # Of a number with more digits than any body has bytes, the digits are enough.
        if len(text) > len(str(_LARGEST_BODY)) or int(text) > _LARGEST_BODY:
            raise _RefusedError(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {_LARGEST_BODY} bytes")
        return int(text)

    def _read_exactly(self, length: int) -> bytes:
        body = self.rfile.read(length)
        if len(body) < length:
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST, f"the body ends after {len(body)} bytes of {length}")
        return body

    def _carried_out(self, body: Mapping[str, object]) -> tuple[http.HTTPStatus, Answer]:
        try:
            return http.HTTPStatus.OK, self._carry(self.path.removeprefix("/"), body)
        except UnknownCallError:
            raise _RefusedError(http.HTTPStatus.NOT_FOUND, f"there is no call {self.path}") from None
        except MalformedCallError as error:
            raise _RefusedError(http.HTTPStatus.BAD_REQUEST, str(error)) from error
        except MounterError as error:
            return _failed(str(error))
        except OSError as error:
            return _failed(str(from_os_error(error)))
        except Exception:
            _log.exception("%s failed", self.path)
            return _failed("internal error of the unionfs volume plugin; its log has it")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As of the base class, which calls it for heads that it cannot read; but with an answer that engines can."""
        del explain
        status = http.HTTPStatus(code)
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:  # "HTTP Version Not Supported"
            status = http.HTTPStatus.BAD_REQUEST
        self._send(status, {"Err": f"unionfs volume plugin: {message or status.phrase}"})

    def _send(self, status: http.HTTPStatus, answer: Answer) -> None:
        body = json.dumps(answer).encode() + b"\n"
        self.connection.settimeout(self._patience)
        self.send_response(status)
        self.send_header("Content-Type", _MEDIA_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """To our log: the base class writes to stderr."""
        _log.info("%s", printable(format % arguments))


def _failed(problem: str) -> tuple[http.HTTPStatus, Answer]:
    return http.HTTPStatus.INTERNAL_SERVER_ERROR, {"Err": problem}
