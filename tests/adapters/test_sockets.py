"""Whose socket it is: ours, another server's that lives, one that nobody serves any more."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.adapters.engine import connected
from unionfs.adapters.volume_plugin.sockets import own_socket, passed_socket
from unionfs.mounter.errors import MounterError


def dead_socket(path: Path) -> None:
    """What a killed server leaves."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.path.relpath(path))


def test_socket_is_for_its_owner_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "plugins/unionfs.sock"
    with own_socket(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with connected(path):
            accepted, _ = listener.accept()
            accepted.close()
    assert not path.exists()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 120) / "unionfs.sock"
    with own_socket(path), connected(path):
        pass


def test_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "unionfs.sock"
    dead_socket(path)
    with own_socket(path), connected(path):
        pass


def test_socket_of_a_living_server_is_not(tmp_path: Path) -> None:
    path = tmp_path / "unionfs.sock"
    with own_socket(path):
        with pytest.raises(MounterError, match="another server listens there"), own_socket(path):
            pass
        with connected(path):
            pass


def test_socket_of_a_server_that_is_busy_is_not(tmp_path: Path) -> None:
    path = tmp_path / "unionfs.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(os.path.relpath(path))
        busy.listen(0)
        waiting.connect(os.path.relpath(path))  # the backlog is full now
        with pytest.raises(MounterError, match="another server listens there"), own_socket(path):
            pass


def test_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "unionfs.sock"
    path.write_text("mine")
    with pytest.raises(MounterError, match="it is there, and no socket"), own_socket(path):
        pass
    assert path.read_text() == "mine"


def test_socket_that_another_server_has_put_there_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "unionfs.sock"
    with own_socket(path):
        path.unlink()
        dead_socket(path)
    assert path.is_socket()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_directory_in_which_others_could_replace_it_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "plugins"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(MounterError, match="others could replace the socket"), own_socket(directory / "unionfs.sock"):
        pass
    assert list(directory.iterdir()) == []


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MounterError, match="choose a directory"), own_socket(tmp_path / "file/unionfs.sock"):
        pass


@pytest.mark.parametrize(
    "environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}]
)
def test_nothing_is_handed_to_this_process(environment: dict[str, str]) -> None:
    assert passed_socket(environment) is None


def test_more_than_one_socket_is_refused() -> None:
    with pytest.raises(MounterError, match="2 sockets are handed over"):
        passed_socket({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})
