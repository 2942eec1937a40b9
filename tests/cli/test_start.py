"""The time between a mount that is ready and a daemon that has loaded all it needs: trio is a module that waits until it is let
go on, or fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import BIN, TIMEOUT, Layers, Programs
from tests.mounts import is_mounted
from tests.programs import run
from unionfs.mounter.processes import start_time, wait_for_end

# Waits for one line; then the real one takes its place.
_SLOW_TRIO = """
import sys
with open({gate!r}) as gate:
    verdict = gate.read()
if verdict != "go on":
    raise ImportError(verdict)
sys.path.remove({directory!r})
del sys.modules["trio"]
import trio
"""


class Gate(NamedTuple):
    """What the import of trio waits for."""

    fifo: Path

    def open(self, verdict: str = "go on") -> None:
        """Let it go on, or fail with another verdict."""
        self.fifo.write_text(verdict)


@pytest.fixture
def gate(programs: Programs, tmp_path: Path) -> Gate:
    """Makes programs find a trio that takes its time."""
    directory = tmp_path / "modules"
    (directory / "trio").mkdir(parents=True)
    made = Gate(directory / "gate")
    os.mkfifo(made.fifo)
    (directory / "trio/__init__.py").write_text(_SLOW_TRIO.format(gate=str(made.fifo), directory=str(directory)))
    programs.environment["PYTHONPATH"] = str(directory)
    programs.preloaded = False
    return made


class Daemon(NamedTuple):
    """A daemon that has not loaded trio yet."""

    pid: int
    started: int

    def wait(self) -> None:
        """Wait for its end."""
        assert wait_for_end(self.pid, self.started, TIMEOUT)


@pytest.fixture
def daemon(programs: Programs, layers: Layers, gate: Gate) -> Daemon:  # noqa: ARG001
    programs.unionfs("mount", *layers.arguments)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    assert started is not None
    return Daemon(pid, started)


@contextlib.contextmanager
def running(programs: Programs, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command that takes as long as it takes."""
    with subprocess.Popen([BIN / "unionfs", *arguments], env=programs.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_mount_is_used_before_trio_is_loaded(programs: Programs, layers: Layers, gate: Gate, daemon: Daemon) -> None:
    merged = layers.merged
    assert sorted(os.listdir(merged)) == ["base", "both"]
    assert (merged / "both").read_text() == "top\n"
    (merged / "directory").mkdir()
    (merged / "directory/new").write_text("new\n")
    gate.open()
    status = json.loads(programs.unionfs("status", "--json", merged))
    assert status["requests"]["init"] == status["requests"]["mkdir"] == 1
    assert status["requests"]["failures"] == 0
    programs.unionfs("umount", merged)
    assert (layers.upper / "directory/new").read_text() == "new\n"
    daemon.wait()


def test_a_file_is_copied_up_that_is_changed_before_trio_is_loaded(programs: Programs, layers: Layers, gate: Gate) -> None:
    content = os.urandom(1 << 20)
    (layers.base / "large").write_bytes(content)
    programs.unionfs("mount", *layers.arguments)
    command = ["sh", "-c", 'echo ready && echo "end of it" >>large']
    with subprocess.Popen(command, cwd=layers.merged, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        gate.open()
        assert client.wait(TIMEOUT) == 0
    assert (layers.upper / "large").read_bytes() == content + b"end of it\n"
    programs.unionfs("umount", layers.merged)


def test_a_question_asked_before_trio_is_loaded_is_answered_afterwards(
    programs: Programs, layers: Layers, gate: Gate, daemon: Daemon
) -> None:
    with running(programs, "status", "--json", layers.merged) as status:
        gate.open()
        answer, _ = status.communicate(timeout=TIMEOUT)
    assert json.loads(answer)["pid"] == daemon.pid
    programs.unionfs("umount", layers.merged)


def test_a_daemon_ends_whose_mount_goes_before_trio_is_loaded(
    programs: Programs, layers: Layers, gate: Gate, daemon: Daemon
) -> None:
    (layers.merged / "new").touch()
    run(["umount", layers.merged])
    gate.open()
    daemon.wait()
    assert programs.ls() == []
    assert (layers.upper / "new").exists()


def test_a_signal_before_trio_is_loaded_unmounts_afterwards(layers: Layers, gate: Gate, daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGTERM)
    assert (layers.merged / "both").read_text() == "top\n"
    gate.open()
    daemon.wait()
    assert not is_mounted(layers.merged)


@pytest.mark.expects_log_error("no trio today|the daemon cannot serve it")
def test_a_mount_is_taken_away_where_trio_cannot_be_loaded(
    programs: Programs, layers: Layers, gate: Gate, daemon: Daemon
) -> None:
    assert (layers.merged / "both").read_text() == "top\n"
    gate.open("no trio today")
    daemon.wait()
    assert not is_mounted(layers.merged)
    assert programs.ls() == []


def test_a_foreground_mount_is_used_before_trio_is_loaded(programs: Programs, layers: Layers, gate: Gate) -> None:
    with programs.foreground(*layers.arguments) as process:
        assert (layers.merged / "both").read_text() == "top\n"
        process.send_signal(signal.SIGINT)
        gate.open()
    assert process.returncode == 130
    assert not is_mounted(layers.merged)


def test_the_other_transport_waits_for_trio(programs: Programs, layers: Layers, gate: Gate) -> None:
    with running(programs, "mount", "--transport", "pyfuse3", *layers.arguments) as mount:
        gate.open()
        assert mount.wait(TIMEOUT) == 0
    assert (layers.merged / "both").read_text() == "top\n"
    programs.unionfs("umount", layers.merged)


def test_python_finds_the_trio_that_waits(programs: Programs, gate: Gate) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import trio; print(trio.run)"], env=programs.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        gate.open()
        printed, _ = process.communicate(timeout=TIMEOUT)
    assert printed.startswith("<function run ")
