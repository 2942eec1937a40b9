"""The socket of our volume plugin: whoever talks to it may mount, so it is for root alone; and nothing that comes in stops it.

tests/adapters has requests of every malformed kind; here is what an attacker does besides.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.conftest import Served
from tests.adapters.engine import ask, connected, read_answer, request
from tests.programs import output
from unionfs.adapters.volume_plugin.sockets import own_socket
from unionfs.mounter.errors import MounterError
from unionfs.store.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="serves volumes")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    top = tmp_path_factory.mktemp("plugin")
    Store(top / "store").close()
    place = Served(top / "store", top / "plugin.sock")
    with place.running():
        yield place


def test_socket_is_for_root_alone(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600
    program = """
        import os, socket, sys
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            socket.socket(socket.AF_UNIX).connect(f"/proc/self/fd/{sys.argv[1]}/plugin.sock")
        except OSError as error:
            print(type(error).__name__)
    """
    os.chmod(served.socket.parent, 0o755)  # noqa: S103
    fd = os.open(served.socket.parent, os.O_PATH)
    try:
        assert output([sys.executable, "-c", textwrap.dedent(program), str(fd)], pass_fds=[fd]) == "PermissionError\n"
    finally:
        os.close(fd)


NAMES = ["../../../etc", "..", ".", "/etc", "a/b", "a\0b", "a\nb", "-v", "$(touch pwned)", "n" * 5000, "\ud800", ""]


@pytest.mark.parametrize("call", ["Create", "Mount", "Unmount", "Path", "Get", "Remove"])
def test_name_that_is_a_path_is_refused(served: Served, call: str) -> None:
    for name in NAMES:
        # As JSON: what is no UTF-8 comes as an escape.
        body = json.dumps({"Name": name, "ID": "x", "Opts": {}}).encode()
        with connected(served.socket) as connection:
            connection.sendall(request(f"VolumeDriver.{call}", body))
            status, answer = read_answer(connection)
        assert status in (400, 500), (name, answer)
        assert answer["Err"], name
    assert os.listdir(served.root / "volumes") == [] if (served.root / "volumes").exists() else True
    assert served.answers()


HOSTILE = {
    "nested lists": request("VolumeDriver.List", b"[" * 500_000),
    "nested objects": request("VolumeDriver.List", b'{"a":' * 150_000),
    "a number without end": request("VolumeDriver.List", b'{"Name":' + b"9" * 500_000 + b"}"),
    "headers without end": b"POST /VolumeDriver.List HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
    "an option that is no text": request("VolumeDriver.Create", b'{"Name": "v", "Opts": {"type": ["tmpfs"]}}'),
    "options that are a list": request("VolumeDriver.Create", b'{"Name": "v", "Opts": ["type"]}'),
    "a path with ..": b"POST /../../VolumeDriver.List HTTP/1.1\r\n\r\n",
    "http/0.9": b"GET /\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_hostile_request_is_refused_and_the_next_one_answered(served: Served, what: str) -> None:
    with connected(served.socket) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(HOSTILE[what])
        connection.shutdown(socket.SHUT_WR)
        first = connection.recv(12)
        assert first == b"" or first.startswith((b"HTTP/1.1 4", b"HTTP/1.1 500"))
    assert ask(served.socket, "VolumeDriver.List") == (200, {"Volumes": [], "Err": ""})


def test_many_silent_connections_hold_up_nobody_for_longer_than_their_time(served: Served) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(40):
            opened.enter_context(connected(served.socket)).sendall(b"POST /Volume")
        assert served.answers()
    assert served.answers()


@pytest.mark.parametrize("kind", ["link", "file", "directory"])
def test_place_of_the_socket_that_somebody_has_taken_is_refused(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "plugins/unionfs.sock", tmp_path / "victim"
    path.parent.mkdir()
    victim.write_text("as it was")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "file":
        path.write_text("as it was")
    else:
        path.mkdir()
    with pytest.raises(MounterError, match="it is there, and no socket"), own_socket(path):
        pass
    assert victim.read_text() == "as it was"
    assert os.path.lexists(path)
