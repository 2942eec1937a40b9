"""One request to a plugin and its answer, over a connection of its own.

Everything has an end: connecting, and from sending on the whole exchange, however slowly the other side drips its answer.  The
limit of a socket is for one system call only, so each is given what is left of the time.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import ssl
from dataclasses import dataclass

from unionfs.volumes.drivers.plugin.discovery import Plugin
from unionfs.volumes.drivers.plugin.errors import PluginAnswerError, PluginSilentError, PluginUnreachableError
from unionfs.volumes.drivers.plugin.timing import Clock
from unionfs.volumes.drivers.plugin.tls import tls_context

LARGEST_ANSWER = 16 << 20
"""Bytes; a hundred thousand volumes in a List are less."""

_LARGEST_HEAD = 1 << 20

_ACCEPT = "application/vnd.docker.plugins.v1.2+json"
_HOST = "plugin.moby.localhost"  # what docker sends where there is no host; every HTTP/1.1 request needs one
_HTTP_OK = 200

_REMEDIES = {
    errno.ENOENT: "start the plugin",
    errno.ECONNREFUSED: "start the plugin; its socket is left from an earlier run",
    errno.EACCES: "run as root",
}


@dataclass(frozen=True)
class Request:
    """``call`` such as ``VolumeDriver.Get``, with ``body``; seconds that may be spent on connecting and from then on."""

    call: str
    body: bytes
    connecting: float
    answering: float


@dataclass(frozen=True)
class Answer:
    """HTTP status and body."""

    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        """Whether the plugin says that it did what was asked (to docker any other status is an error)."""
        return self.status == _HTTP_OK


def exchange(plugin: Plugin, request: Request, clock: Clock) -> Answer:
    """Send a request, get its answer.

    Raises:
        PluginUnreachableError: there is no connection.
        PluginSilentError: it was lost, or no whole answer came in time.
        PluginAnswerError: the answer is too long, or not HTTP.
        PluginError: the TLS configuration is wrong.
    """
    connection = _Connection(plugin, request.connecting, request.answering, clock)
    try:
        connection.connect()
    except OSError as error:
        raise _unreachable(plugin, error) from error
    try:
        connection.request("POST", f"/{request.call}", request.body, {"Accept": _ACCEPT})
        with connection.getresponse() as response:
            body = response.read(LARGEST_ANSWER + 1)
    except TimeoutError as error:
        problem = f"no whole answer to {request.call} within {request.answering:g} s"
        raise PluginSilentError(plugin.name, problem, "see what the plugin waits for") from error
    except _TooLongError as error:
        raise _too_long(plugin, request) from error
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, OSError) as error:
        problem = f"the connection was lost during {request.call}: {_reason(error)}"
        raise PluginSilentError(plugin.name, problem, "see whether the plugin still runs") from error
    except (http.client.HTTPException, ValueError) as error:  # ValueError: a chunk of -5 bytes
        raise PluginAnswerError(plugin.name, request.call, f"no HTTP: {_reason(error)}", "an answer in HTTP/1.1") from error
    finally:
        connection.close()
    if len(body) > LARGEST_ANSWER:
        raise _too_long(plugin, request)
    if response.length:  # read() with a number of bytes says nothing of those that never came
        problem = f"the connection was lost during {request.call}: {response.length} bytes of the answer are missing"
        raise PluginSilentError(plugin.name, problem, "see whether the plugin still runs")
    return Answer(response.status, body)


def _too_long(plugin: Plugin, request: Request) -> PluginAnswerError:
    problem = f"an answer of more than {LARGEST_ANSWER >> 20} MiB"
    return PluginAnswerError(plugin.name, request.call, problem, "a few kilobytes of JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _unreachable(plugin: Plugin, error: OSError) -> PluginUnreachableError:
    problem = f"cannot connect to {plugin.named_address}: {_reason(error)}"
    remedy = _REMEDIES.get(error.errno or 0, "see whether the plugin runs")
    if isinstance(error, ssl.SSLError):
        remedy = "compare the TLSConfig with the certificates of the plugin"
    return PluginUnreachableError(plugin.name, problem, remedy, may_pass=_may_pass(error))


def _may_pass(error: OSError) -> bool:
    """Whether another attempt may find things different.  A path that is too long for a socket is an OSError without a number."""
    return error.errno is not None and not isinstance(error, PermissionError | ssl.SSLCertVerificationError)


class _Connection(http.client.HTTPConnection):
    """A connection to wherever the plugin listens, all of whose waiting comes to an end."""

    def __init__(self, plugin: Plugin, connecting: float, answering: float, clock: Clock) -> None:
        super().__init__(plugin.host or _HOST, plugin.port or None, timeout=connecting)
        self._plugin = plugin
        self._connecting = connecting
        self._answering = answering
        self._clock = clock

    def connect(self) -> None:
        """Connect; the time for the answer runs from now on."""
        deadline = _Deadline(self._clock, self._connecting)
        plain = self._connected(deadline)
        try:
            found = plain if self._plugin.tls is None else self._encrypted(plain, deadline)
        except BaseException:
            plain.close()
            raise
        self.sock = _LimitedSocket(found, _Deadline(self._clock, self._answering))

    def _connected(self, deadline: _Deadline) -> socket.socket:
        if self._plugin.path is None:
            return socket.create_connection((self._plugin.host, self._plugin.port), deadline.left())
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(deadline.left())
            connected.connect(os.fsencode(self._plugin.path))
        except BaseException:
            connected.close()
            raise
        return connected

    def _encrypted(self, plain: socket.socket, deadline: _Deadline) -> socket.socket:
        assert self._plugin.tls is not None
        context = tls_context(self._plugin, self._plugin.tls)
        plain.settimeout(deadline.left())
        return context.wrap_socket(plain, server_hostname=self._plugin.host)


class _Deadline:
    """A moment, ``seconds`` from now."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.now() + seconds

    def left(self) -> float:
        """Seconds until then, more than 0: to a socket that would mean not to wait at all.

        Raises:
            TimeoutError: it is past.
        """
        seconds = self._end - self._clock.now()
        if seconds <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return seconds


class _LimitedSocket:
    """What http.client uses of a socket, with one deadline for all of it."""

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """As `socket.socket.sendall`."""
        self._socket.settimeout(self._deadline.left())
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file of what comes, which stays open when the socket is closed, as that of a socket does."""
        assert mode == "rb"
        return io.BufferedReader(_Incoming(self._socket, self._deadline))

    def close(self) -> None:
        """As `socket.socket.close`."""
        self._socket.close()


class _TooLongError(Exception):
    """More came than any answer may have, headers and all."""


class _Incoming(io.RawIOBase):
    """What comes in."""

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._socket = connected
        self._deadline = deadline
        # http.client closes the socket when an answer ends with the connection, and goes on to read: this keeps it open.
        self._raw = connected.makefile("rb", buffering=0)
        self._left = LARGEST_ANSWER + _LARGEST_HEAD

    def readable(self) -> bool:
        """It is for nothing else."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        """As `io.RawIOBase.readinto`."""
        self._socket.settimeout(self._deadline.left())
        count = self._raw.readinto(buffer)
        # Not left to whoever reads: http.client takes a chunk of -1 bytes for all there is.
        self._left -= count or 0
        if self._left < 0:
            raise _TooLongError
        return count

    def close(self) -> None:
        """As `io.IOBase.close`."""
        self._raw.close()
        super().close()
