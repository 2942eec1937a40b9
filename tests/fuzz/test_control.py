"""Both ends of the control socket: lines of any client, and answers of any daemon."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import trio
from hypothesis import example, given

from tests.fuzz.bounds import outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import JSON_VALUES, NESTED, texts_of
from unionfs.mounter.control import MAX_LINE, ask, listen
from unionfs.mounter.control_server import serve
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.registry import CONTROL_SOCKET

PATIENCE = 20.0
QUESTION = {"op": "explain", "path": "etc/passwd"}


async def _explain(request: dict[str, Any]) -> object:
    return len(str(request.get("path")))


async def _talk(address: Path, lines: bytes) -> list[bytes]:
    """What the server says to ``lines``, until it or we hang up."""
    with trio.fail_after(PATIENCE), listen(address) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, {"explain": _explain})
            answers = await _exchange(address, lines)
            # The server must be there for the next client.
            assert await _exchange(address, json.dumps(QUESTION).encode() + b"\n") == [b'{"ok": true, "result": 10}']
            nursery.cancel_scope.cancel()
    return answers


async def _exchange(address: Path, lines: bytes) -> list[bytes]:
    received = bytearray()
    async with await trio.open_unix_socket(str(address / CONTROL_SOCKET)) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(lines)
            await stream.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                received += data
    return bytes(received).splitlines()


@effort(40)
@given(lines=st.lists(texts_of(QUESTION), min_size=1, max_size=4))
@example([NESTED])
@example([b'{"op":' + b"[" * 60_000])
def test_each_line_gets_an_answer_and_the_server_stays(new_directory: Callable[..., Path], lines: list[bytes]) -> None:
    sent = b"\n".join(lines) + b"\n"
    answers = trio.run(_talk, new_directory(), sent)
    if all(len(line) <= MAX_LINE for line in sent.split(b"\n")):
        assert len(answers) == sent.count(b"\n")
    for answer in answers:
        said = json.loads(answer)
        assert said["ok"] is True or (said["ok"] is False and isinstance(said["errno"], int) and isinstance(said["error"], str))


ANSWERS = st.sampled_from([{"ok": True, "result": {"pid": 1}}, {"ok": False, "errno": 2, "error": "No such file or directory"}])


@effort(100)
@given(answer=ANSWERS.flatmap(texts_of) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(NESTED)
@example(b'{"ok": false, "errno": "2", "error": "x"}')
@example(b'{"ok": false, "errno": 2, "error": []}')
@example(b'{"ok": false, "errno": null, "error": null}')
def test_answer_of_any_daemon_is_a_result_or_an_error(new_directory: Callable[..., Path], answer: bytes) -> None:
    directory = new_directory()
    with listen(directory) as listener:
        daemon = threading.Thread(target=_answer_once, args=(listener, answer))
        daemon.start()
        try:
            found = outcome(lambda: outcome(lambda: ask(directory, "explain", PATIENCE), DaemonError), OSError)
        finally:
            daemon.join(PATIENCE)
    assert not daemon.is_alive()
    if isinstance(found, OSError):
        assert isinstance(found.errno, int)
        assert isinstance(found.strerror, str)


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(MAX_LINE)
        connection.sendall(answer + b"\n")
