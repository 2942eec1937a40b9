"""The control socket of a mount: closed to others, and whatever comes in, the mount goes on being served."""

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
from typing import Any

import pytest

from tests.behaviour.layers import build
from tests.mounts import run_unionfs
from tests.programs import output, wait_until
from unionfs.mounter.control import MAX_LINE, ask, socket_address
from unionfs.mounter.registry import CONTROL_SOCKET

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

LIMIT = 20.0
"""Seconds; what takes longer hangs."""


class Mounted:
    """A union and its directory in the registry."""

    def __init__(self, merged: Path, directory: Path) -> None:
        self.merged = merged
        self.directory = directory

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            with socket_address(self.directory) as address:
                wait_until(lambda: self._reaches(connection, address), "a place in the queue", LIMIT)
            yield connection

    @staticmethod
    def _reaches(connection: socket.socket, address: str) -> bool:
        try:
            connection.connect(address)
        except BlockingIOError:  # more at once than the daemon has accepted yet
            return False
        return True

    def check_alive(self) -> None:
        """The daemon answers, both ways."""
        assert (self.merged / "f").read_bytes() == b"x"
        assert ask(self.directory, "status")["mountpoint"] == str(self.merged)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("control")
    build(top / "lower", {"f": b"x"})
    for name in ("upper", "merged"):
        build(top / name, {})
    before = os.environ.get("UNIONFS_RUNTIME_DIR")
    os.environ["UNIONFS_RUNTIME_DIR"] = str(top / "run")
    try:
        run_unionfs(["mount", "-l", top / "lower", "-u", top / "upper", top / "merged"])
        (directory,) = (top / "run").iterdir()
        yield Mounted(top / "merged", directory)
        run_unionfs(["umount", top / "merged"])
    finally:
        if before is None:
            del os.environ["UNIONFS_RUNTIME_DIR"]
        else:
            os.environ["UNIONFS_RUNTIME_DIR"] = before


def test_registry_is_for_its_owner_alone(mounted: Mounted) -> None:
    for directory in (mounted.directory, mounted.directory.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert directory.stat().st_uid == 0


def test_daemon_hangs_up_on_another_user_who_has_come_as_far_as_the_socket(mounted: Mounted) -> None:
    # By an open descriptor of the directory: modes of directories do not stop whoever was handed one.
    script = """
        import os, socket, sys
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        try:
            connection.connect(f"/proc/self/fd/{sys.argv[1]}/control")
            connection.sendall(b'{"op": "status"}\\n')
            print(connection.recv(100))
        except OSError as error:
            print(type(error).__name__)
    """
    os.chmod(mounted.directory, 0o755)  # noqa: S103
    os.chmod(mounted.directory / CONTROL_SOCKET, 0o777)  # noqa: S103
    fd = os.open(mounted.directory, os.O_PATH)
    try:
        said = output([sys.executable, "-c", textwrap.dedent(script), str(fd)], pass_fds=[fd])
    finally:
        os.close(fd)
        os.chmod(mounted.directory, 0o700)
    assert said in ("b''\n", "BrokenPipeError\n", "ConnectionResetError\n")
    mounted.check_alive()


DEEP = b'{"op":' * 10_000
GARBAGE: dict[str, bytes] = {
    "nothing": b"\n",
    "noise": bytes(range(1, 256)).replace(b"\n", b"") * 100 + b"\n",
    "zeros": bytes(1000) + b"\n",
    "no object": b"[1, 2]\n",
    "half an object": b'{"op": "status"\n',
    "nested lists": b"[" * 60_000 + b"\n",
    "nested objects": DEEP[: MAX_LINE - 100] + b"\n",
    "a number without end": b'{"op": ' + b"9" * 50_000 + b"}\n",
    "no operation": b'{"op": null}\n',
    "an operation that is none": b'{"op": "__class__"}\n',
    "an operation that is a list": b'{"op": []}\n',
    "a path that is no path": b'{"op": "explain", "path": {"a": 1}}\n',
    "a path out of the mount": b'{"op": "explain", "path": "../../../etc/shadow"}\n',
    "a surrogate": b'{"op": "explain", "path": "\\ud800"}\n',
    "a NUL": b'{"op": "explain", "path": "a\\u0000b"}\n',
    "arguments of other types": b'{"op": "add_layer", "path": 7, "top": "x", "layer_changes": 0}\n',
    "no arguments": b'{"op": "add_layer", "layer_changes": 0}\n',
    "a layer that is a device": b'{"op": "add_layer", "path": "/dev/zero", "top": true, "layer_changes": 0}\n',
    "a snapshot called nothing": b'{"op": "snapshot", "name": ""}\n',
    "a snapshot without a name": b'{"op": "snapshot", "name": 7}\n',
    "a merge of nonsense": b'{"op": "snapshot_merge", "numbers": ["x"], "layer_changes": 0}\n',
    "a removal of nonsense": b'{"op": "snapshot_rm", "number": "..", "layer_changes": 0}\n',
    "a rollback to nonsense": b'{"op": "snapshot_rollback", "name": [], "discard": 1, "force": 1}\n',
}


@pytest.mark.parametrize("what", list(GARBAGE))
@pytest.mark.expects_log_error("control request .* failed")
def test_garbage_gets_an_error_and_the_mount_is_served(mounted: Mounted, what: str) -> None:
    with mounted.connected() as connection:
        connection.sendall(GARBAGE[what])
        answer = json.loads(connection.makefile("rb").readline())
    # "explain" of what is not there is an answer too.
    assert answer["ok"] is False or b'"explain"' in GARBAGE[what]
    mounted.check_alive()


def test_line_without_end_is_cut_off(mounted: Mounted) -> None:
    with mounted.connected() as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while True:
            connection.sendall(b"x" * 65536)
    mounted.check_alive()


def test_many_connections_that_say_nothing_do_not_stop_the_mount(mounted: Mounted) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(200):
            connection = opened.enter_context(mounted.connected())
            connection.sendall(b'{"op": "sta')
        assert (mounted.merged / "f").read_bytes() == b"x"
        (mounted.merged / "new").write_bytes(b"y")
    # Those who hold the places have gone: the next one is answered.
    mounted.check_alive()


def test_flood_of_requests_whose_answers_nobody_reads(mounted: Mounted) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(8):
            connection: Any = opened.enter_context(mounted.connected())
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                while True:
                    connection.send(b'{"op": "status"}\n' * 1000)
        assert (mounted.merged / "f").read_bytes() == b"x"
    mounted.check_alive()
