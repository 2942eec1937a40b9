"""Requests as engines send them, and what nobody should send."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.engine import read_answer, request
from unionfs.adapters.volume_plugin.calls import Answer, MalformedCallError, UnknownCallError
from unionfs.adapters.volume_plugin.exchange import exchange
from unionfs.store.errors import StoreError

PATIENCE = 5.0
AT_ONCE = 0.05

MIB = 1024 * 1024


def echo(call: str, body: Mapping[str, object]) -> Answer:
    """A call that answers what it got."""
    return {"call": call, "body": dict(body)}


def answer_to(sent: bytes, carry: Any = echo, *, ends: bool = True, patience: float = PATIENCE) -> tuple[int, Any]:
    """The answer to ``sent``, after which the client says that this was all, or says nothing more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
        ours.sendall(sent)
        if ends:
            ours.shutdown(socket.SHUT_WR)
        exchange(theirs, carry, patience)
        theirs.close()
        return read_answer(ours)


def test_request_as_docker_sends_it() -> None:
    headers = b"User-Agent: Go-http-client/1.1\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n"
    sent = request("VolumeDriver.Get", b'{"Name":"v1"}\n', headers)
    assert answer_to(sent, ends=False) == (200, {"call": "VolumeDriver.Get", "body": {"Name": "v1"}})


def test_request_as_podman_sends_it() -> None:
    headers = b"Content-Type: application/vnd.docker.plugins.v1.1+json\r\nAccept-Encoding: gzip\r\n"
    sent = request("VolumeDriver.Get", b'{"Name":"v1"}', headers)
    assert answer_to(sent, ends=False) == (200, {"call": "VolumeDriver.Get", "body": {"Name": "v1"}})


@pytest.mark.parametrize("body", [b"", b"\n", b"{}", b"{}\n"])
def test_empty_body_says_nothing(body: bytes) -> None:
    assert answer_to(request("VolumeDriver.List", body), ends=False) == (200, {"call": "VolumeDriver.List", "body": {}})


def test_request_without_a_length_has_no_body() -> None:
    assert answer_to(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\n\r\n", ends=False)[0] == 200


def test_error_is_what_docker_shows() -> None:
    def fail(*_: object) -> Answer:
        raise StoreError("v1", "no such volume", "make it")

    assert answer_to(request("VolumeDriver.Get"), fail) == (500, {"Err": "v1: no such volume; make it"})


def test_error_of_the_system_names_the_thing() -> None:
    def fail(*_: object) -> Answer:
        raise PermissionError(13, "Permission denied", "/srv")

    assert answer_to(request("VolumeDriver.Get"), fail) == (500, {"Err": "/srv: Permission denied"})


@pytest.mark.expects_log_error("/VolumeDriver.Get failed")
def test_mistake_of_ours_is_logged_and_answered() -> None:
    def fail(*_: object) -> Answer:
        raise LookupError("a mistake")

    status, answer = answer_to(request("VolumeDriver.Get"), fail)
    assert status == 500
    assert "its log has it" in answer["Err"]


def test_malformed_and_unknown_calls() -> None:
    def malformed(*_: object) -> Answer:
        raise MalformedCallError("Name must be a string")

    def unknown(*_: object) -> Answer:
        raise UnknownCallError("X")

    status, answer = answer_to(request("VolumeDriver.Get"), malformed)
    assert (status, answer["Err"]) == (400, "unionfs volume plugin: Name must be a string")
    status, answer = answer_to(request("X"), unknown)
    assert (status, answer["Err"]) == (404, "unionfs volume plugin: there is no call /X")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),  # a TLS client
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
        (b"POST /X HTTP/9.9\r\n\r\n", 400),
        (b"POST /X HTTP/one\r\n\r\n", 400),
        (b"GET /VolumeDriver.List HTTP/1.1\r\n\r\n", 405),
        (b"BREW /coffee HTTP/1.1\r\n\r\n", 405),
        (b"POST /" + b"x" * 70000, 414),
        (b"POST /X HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"POST /X HTTP/1.1\r\nA: " + b"b" * 70000 + b"\r\n\r\n", 431),
        (b"POST /X HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /X HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400),
        (b"POST /X HTTP/1.1\r\nContent-Length: \xc2\xb2\r\n\r\n", 400),
        (b"POST /X HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST /X HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST /X HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (request("X", b"{"), 400),
        (request("X", b"[]"), 400),
        (request("X", b'"text"'), 400),
        (request("X", b"\xff\xfe"), 400),
        (request("X", b"[" * 100_000), 400),
        (request("X", b'{"a":' + b"9" * 10_000 + b"}"), 400),
        (b"POST /X HTTP/1.1\r\nContent-Length: 5\r\n\r\n{}", 400),
    ],
)
def test_what_is_no_request_is_refused(sent: bytes, status: int) -> None:
    found, answer = answer_to(sent)
    assert found == status
    assert answer["Err"].startswith("unionfs volume plugin: ")


@pytest.mark.parametrize(
    "sent", [b"", b"PO", b"POST /X HTTP/1.1\r\nHost: x\r\n", b"POST /X HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}"]
)
def test_half_a_request_has_its_time(sent: bytes) -> None:
    status, answer = answer_to(sent, ends=False, patience=AT_ONCE)
    assert (status, answer["Err"]) == (408, "unionfs volume plugin: Request Timeout")


def test_time_is_that_of_the_whole_request() -> None:
    """Each byte that trickles in would start a time limit of the socket anew."""
    trickle = _Trickle()
    exchange(trickle, echo, AT_ONCE)  # type: ignore[arg-type]
    assert b" 408 " in trickle.sent


class _Trickle:
    """A connection on which there is always one byte more."""

    def __init__(self) -> None:
        self.sent = b""
        self._head = b"POST /X HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % MIB

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO()

    def recv_into(self, buffer: memoryview) -> int:
        buffer[:1] = self._head[:1] or b"x"
        self._head = self._head[1:]
        return 1

    def sendall(self, data: bytes) -> None:
        self.sent += bytes(data)


def test_client_that_goes_away_is_nobodys_error() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(request("VolumeDriver.List"))
        ours.close()
        exchange(theirs, echo, PATIENCE)


def test_client_that_takes_no_answer_has_its_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(request("VolumeDriver.List"))
        exchange(theirs, lambda *_: {"large": "x" * (8 * MIB)}, AT_ONCE)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_two_requests_on_one_connection_get_one_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.sendall(request("One") + request("Two"))
    exchange(theirs, echo, PATIENCE)
    theirs.close()
    received = b""
    while chunk := ours.recv(65536):
        received += chunk
    assert received.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close\r\n" in received


@given(st.binary(max_size=200))
def test_garbage_gets_a_4xx_or_nothing(garbage: bytes) -> None:
    _check_refused(garbage + b"\r\n\r\n")


@given(st.binary(max_size=100), st.integers(min_value=0, max_value=120))
def test_garbage_within_a_request_does_no_harm(garbage: bytes, position: int) -> None:
    sent = request("VolumeDriver.Mount", b'{"Name":"data","ID":"1"}', b"Accept: x\r\n")
    _check_refused(sent[:position] + garbage + sent[position:], may_work=True)


def _check_refused(sent: bytes, *, may_work: bool = False) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        ours.shutdown(socket.SHUT_WR)
        exchange(theirs, echo, PATIENCE)
        theirs.close()
        received = b""
        while chunk := ours.recv(65536):
            received += chunk
    if not received:
        return
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert 400 <= status < 500 or (may_work and status == 200)
    assert isinstance(json.loads(body), dict)
