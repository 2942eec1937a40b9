"""The served plugin as a whole: many at a time, killed, told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adapters.conftest import UNIONFS, Served
from tests.adapters.engine import ask, connected, mountpoint, read_answer, request
from tests.mounts import mounts_under
from tests.programs import TIMEOUT, run, started, wait_until
from unionfs.adapters.volume_plugin import server as server_module
from unionfs.adapters.volume_plugin.server import Server
from unionfs.adapters.volume_plugin.sockets import own_socket
from unionfs.mounter.processes import start_time
from unionfs.store.store import Store
from unionfs.volumes import VolumeManager

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}

ENGINE = """
import pathlib, sys
from tests.adapters.engine import mountpoint
mountpoint(pathlib.Path(sys.argv[1]), "fast", "1")
"""


def test_use_is_recorded_with_the_process_that_asked(place: Served, volumes: VolumeManager) -> None:
    with place.running():
        ask(place.socket, "VolumeDriver.Create", Name="data")
        mountpoint(place.socket, "data", "1")
    (use,) = volumes.mounts("data")
    assert use.peer is not None
    assert (use.peer.pid, use.peer.started) == (os.getpid(), start_time(os.getpid()))


def test_engines_at_the_same_time(place: Served, volumes: VolumeManager) -> None:
    with place.running(), ThreadPoolExecutor(8) as engines:
        ask(place.socket, "VolumeDriver.Create", Name="fast", Opts=TMPFS)

        def use(number: int) -> None:
            assert ask(place.socket, "VolumeDriver.Create", Name=f"own{number}") == (200, {"Err": ""})
            data = mountpoint(place.socket, "fast", str(number))
            (data / f"{number}").touch()
            assert ask(place.socket, "VolumeDriver.Unmount", Name="fast", ID=str(number)) == (200, {"Err": ""})
            assert ask(place.socket, "VolumeDriver.Remove", Name=f"own{number}") == (200, {"Err": ""})

        list(engines.map(use, range(32)))
    assert [volume.name for volume in volumes.all()] == ["fast"]
    assert list(mounts_under(place.root)) == []


def test_silent_and_half_requests_hold_up_nobody(place: Served) -> None:
    with place.running(), connected(place.socket), connected(place.socket) as half:
        half.sendall(b"POST /VolumeDriver.Get HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        assert ask(place.socket, "VolumeDriver.List") == (200, {"Volumes": [], "Err": ""})


def test_garbage_leaves_the_server_as_it_was(place: Served) -> None:
    with place.running():
        for garbage in (b"\0" * 1000, b"GET / HTTP/1.0\r\n\r\n", request("VolumeDriver.Get", b"[[["), os.urandom(3000)):
            with connected(place.socket) as connection:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
        assert place.answers()


def test_sigterm_ends_it_and_takes_the_socket_away(place: Served) -> None:
    with place.running() as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert not place.socket.exists()


def test_sigterm_lets_a_request_end(place: Served) -> None:
    with place.running() as process, connected(place.socket) as connection:
        whole = request("VolumeDriver.Create", b'{"Name":"data"}')
        connection.sendall(whole[:-1])
        # It is accepted once a process for it is there.
        wait_until(lambda: _children(process.pid) != [], "the process of the request")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not place.answers(), "the end of accepting")
        connection.sendall(whole[-1:])
        assert read_answer(connection) == (200, {"Err": ""})
        assert process.wait(TIMEOUT) == 0


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_second_server_is_refused_and_the_first_goes_on(place: Served) -> None:
    with place.running():
        ended = run(place.command, status=1)
        assert ended.stderr.startswith(f"unionfs: {place.socket}: another server listens there; ")
        assert place.answers()


def test_nothing_is_lost_when_it_is_killed(place: Served, volumes: VolumeManager) -> None:
    with place.running() as process:
        ask(place.socket, "VolumeDriver.Create", Name="fast", Opts=TMPFS)
        data = mountpoint(place.socket, "fast", "1")
        (data / "file").write_text("kept")
        mountpoint(place.socket, "fast", "1")
        process.kill()
        process.wait(TIMEOUT)
    assert place.socket.is_socket()
    assert (data / "file").read_text() == "kept"
    with place.running():
        assert ask(place.socket, "VolumeDriver.Path", Name="fast") == (200, {"Mountpoint": str(data), "Err": ""})
        ask(place.socket, "VolumeDriver.Unmount", Name="fast", ID="1")
        assert (data / "file").read_text() == "kept"
        ask(place.socket, "VolumeDriver.Unmount", Name="fast", ID="1")
        assert not os.path.ismount(data)
    assert volumes.mounts("fast") == []


def test_use_of_an_engine_that_has_ended_can_be_released_by_hand(place: Served, volumes: VolumeManager) -> None:
    with place.running():
        ask(place.socket, "VolumeDriver.Create", Name="fast", Opts=TMPFS)
        run([sys.executable, "-c", ENGINE, place.socket], cwd=Path(__file__).parents[2])
        assert volumes.mountpoint(volumes.get("fast")) is not None  # that it has ended unmounts nothing
        assert run([UNIONFS, "volume", "release", "--root", place.root, "fast"]).stdout == "plugin:1\n"
        assert volumes.mountpoint(volumes.get("fast")) is None
        assert ask(place.socket, "VolumeDriver.Unmount", Name="fast", ID="1") == (200, {"Err": ""})


def test_store_that_cannot_be_used_is_told_to_the_engine(place: Served) -> None:
    with place.running():
        (place.root / "store.db").rename(place.root / "away")
        (place.root / "store.db").mkdir()
        status, answer = ask(place.socket, "VolumeDriver.List")
        assert status == 500
        assert answer["Err"].startswith(f"{place.root / 'store.db'}: the database failed: ")


@pytest.mark.expects_log_error("a request failed")
def test_request_that_crashes_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "plugin.sock"

    def crash_at_first(connection: socket.socket) -> None:
        if connection.recv(1) == b"1":
            raise LookupError("a mistake")
        connection.sendall(b"answered")

    with own_socket(path) as listener, _forked(lambda: Server(listener, crash_at_first).run()) as server:
        for sent, received in ((b"1", b""), (b"2", b"answered")):
            with connected(path) as connection:
                connection.sendall(sent)
                assert connection.recv(65536) == received
        os.kill(server, signal.SIGTERM)
        assert os.waitpid(server, 0) == (server, 0)


@contextlib.contextmanager
def _forked(action: Callable[[], None]) -> Iterator[int]:
    """Do it in a process of its own; killed at the end if it still runs."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_mount_that_a_killed_process_was_making_is_undone_by_the_next_server(place: Served, store: Store) -> None:
    with place.running():
        ask(place.socket, "VolumeDriver.Create", Name="fast", Opts=TMPFS)
        data = mountpoint(place.socket, "fast", "1")
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM volume_mounts")
    assert os.path.ismount(data)
    with place.running():
        assert not os.path.ismount(data)


def test_union_outlives_the_server_and_holds_neither_its_socket_nor_the_connection(place: Served, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "file").write_text("base")
    with place.running() as process:
        ask(place.socket, "VolumeDriver.Create", Name="own", Opts={"driver": "overlay", "lower": str(base)})
        data = mountpoint(place.socket, "own", "1")  # that the answer is followed by the end of the connection is looked at there
        process.kill()
        process.wait(TIMEOUT)
    assert (data / "file").read_text() == "base"
    with place.running():  # which a socket that somebody holds would prevent
        assert (data / "file").read_text() == "base"
        ask(place.socket, "VolumeDriver.Unmount", Name="own", ID="1")
    assert not os.path.ismount(data)


def test_too_many_at_a_time_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_REQUESTS", 0)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")  # autobind: an abstract address (unix(7))
        listener.listen()
        client.connect(listener.getsockname())
        listener.setblocking(False)
        Server(listener, lambda _: None)._accept(None)  # type: ignore[arg-type]  # signals are for processes of requests
        status, answer = read_answer(client)
    assert status == 503
    assert "try again" in answer["Err"]


def is_listening(path: Path) -> bool:
    """Whether somebody listens on the socket at ``path``, which is there a moment before that.  No connection is made: the first
    one starts what waits for it."""
    # Columns (net/unix/af_unix.c, unix_seq_show()): … flags, type, state, inode, path; __SO_ACCEPTCON is 1 << 16.
    rows = (line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(row[7:] == [str(path)] and int(row[3], 16) & 1 << 16 for row in rows)


@pytest.mark.parametrize("words", [(), ("--socket", "/nowhere/x.sock")])
def test_socket_that_systemd_hands_over(place: Served, words: tuple[str, ...]) -> None:
    command = ["systemd-socket-activate", "--listen", place.socket, UNIONFS, "plugin", "serve", "--root", place.root, *words]
    with started(command, stderr=subprocess.PIPE) as process:
        wait_until(lambda: is_listening(place.socket), "the socket")
        if words:
            with connected(place.socket):
                assert process.wait(TIMEOUT) == 2
            assert process.stderr is not None
            assert b"--socket is given, and systemd has handed over a socket" in process.stderr.read()
            return
        assert ask(place.socket, "VolumeDriver.List") == (200, {"Volumes": [], "Err": ""})
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    assert place.socket.exists()  # it is systemd's
