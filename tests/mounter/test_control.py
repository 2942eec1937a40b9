"""The control socket: both ends over a real socket, the server in a thread with an event loop of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from unionfs.mounter.control import CONTROL_SOCKET, MAX_LINE, ask, listen
from unionfs.mounter.control_server import serve
from unionfs.mounter.errors import DaemonError


async def _echo(request: dict[str, Any]) -> object:
    return request


async def _fail(_request: dict[str, Any]) -> object:
    raise FileNotFoundError(2, "No such file or directory")


async def _bug(_request: dict[str, Any]) -> object:
    raise ZeroDivisionError


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[None]:
    started = threading.Event()
    token: list[trio.lowlevel.TrioToken] = []
    scope = trio.CancelScope()

    async def run() -> None:
        with listen(directory) as listener, scope:
            token.append(trio.lowlevel.current_trio_token())
            started.set()
            await serve(listener, {"echo": _echo, "fail": _fail, "bug": _bug})

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        token[0].run_sync_soon(scope.cancel)
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    # Longer than a socket address may be.
    path = tmp_path / ("x" * 120)
    path.mkdir()
    with serving(path):
        yield path


@pytest.fixture
def connection(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.chdir(directory)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(CONTROL_SOCKET)
        yield connection


def test_a_request_reaches_its_handler_with_its_arguments(directory: Path) -> None:
    assert ask(directory, "echo", path="a/b", number=3) == {"op": "echo", "path": "a/b", "number": 3}


def test_a_path_that_is_not_utf8_passes(directory: Path) -> None:
    assert ask(directory, "echo", path="\udcff")["path"] == "\udcff"


def test_an_error_of_the_handler_is_raised_at_the_client(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(directory, "fail")


@pytest.mark.expects_log_error("control request 'bug' failed")
def test_a_bug_in_a_handler_is_an_error_for_the_client_and_the_server_goes_on(directory: Path) -> None:
    with pytest.raises(OSError, match="internal error"):
        ask(directory, "bug")
    assert ask(directory, "echo") == {"op": "echo"}


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b'{"op": []}\n', b'{"op": "unknown"}\n', b"\xff\n"])
def test_what_is_not_a_request_gets_an_error_and_the_next_one_is_answered(connection: socket.socket, line: bytes) -> None:
    connection.sendall(line + b'{"op": "echo"}\n')
    with connection.makefile("rb") as answers:
        assert json.loads(answers.readline()) == {
            "ok": False,
            "errno": 22,
            "error": "not a request; operations are echo, fail, bug",
        }
        assert json.loads(answers.readline()) == {"ok": True, "result": {"op": "echo"}}


def test_a_request_in_pieces_is_put_together(connection: socket.socket) -> None:
    for byte in b'{"op": "echo"}\n':
        connection.sendall(bytes([byte]))
    assert json.loads(connection.makefile("rb").readline()) == {"ok": True, "result": {"op": "echo"}}


def test_a_line_without_end_is_not_collected_for_ever(connection: socket.socket) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"x" * (2 * MAX_LINE))
    with contextlib.suppress(ConnectionResetError):  # ours that it did not read
        assert connection.recv(1) == b""


def test_a_client_that_hangs_up_harms_nobody(directory: Path, connection: socket.socket) -> None:
    connection.sendall(b'{"op": "echo"}\n{"op":')
    connection.close()
    assert ask(directory, "echo") == {"op": "echo"}


def test_a_socket_without_server_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="the daemon cannot be asked: No such file or directory; unionfs ls"):
        ask(tmp_path, "echo")
    listen(tmp_path).close()
    with pytest.raises(DaemonError, match="the daemon cannot be asked: Connection refused; unionfs ls"):
        ask(tmp_path, "echo")


def test_a_daemon_that_does_not_answer_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with listen(tmp_path), pytest.raises(DaemonError, match=r"did not answer within 0\.01 s"):
        ask(tmp_path, "echo", timeout=0.01)


def test_a_process_that_ends_before_it_has_answered_is_not_one_of_another_version(tmp_path: Path) -> None:
    with listen(tmp_path) as listener:

        def die() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(MAX_LINE)

        dying = threading.Thread(target=die)
        dying.start()
        with pytest.raises(DaemonError, match="the process that was to answer has ended; what it was asked may be done or not"):
            ask(tmp_path, "echo")
        dying.join()
