"""The programs, run as a user runs them, with a registry of their own for each test."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import preloaded
from tests.mounts import mounts_under, tear_down
from tests.programs import Ended, describe, run, started

TIMEOUT = 30.0
"""Seconds; what takes longer hangs."""

BIN = Path(sys.executable).parent


class Programs:
    """Runs the programs; ``registry`` is where their mounts are registered.

    ``preloaded``: whether `unionfs` and `refusal` use `tests.preloaded`; `run` and the others start the program itself."""

    def __init__(self, registry: Path) -> None:
        self.registry = registry
        self.preloaded = True
        self.environment = {**os.environ, "UNIONFS_RUNTIME_DIR": str(registry), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(self, program: str, *arguments: str | Path, prefix: Sequence[str | Path] = (), **extra: Any) -> Ended:
        """Run it to its end, whatever its exit status; ``prefix``: words before it, ``extra``: as for `tests.programs.run`."""
        command = [*prefix, BIN / program, *arguments]
        return run(command, status=None, limit=TIMEOUT, environment=self.environment, **extra)

    def in_namespaces(self, script: str, *options: str) -> Ended:
        """Run shell commands with mounts and processes of their own: what a failure leaves of either ends with them."""
        namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["unshare", *options, *namespaces, "sh", "-ec", script]
        return run(command, status=None, limit=TIMEOUT, environment=self.environment)

    def unionfs(self, *arguments: str | Path) -> str:
        """Run ``unionfs``, which shall succeed without complaint; what it printed."""
        ended = self._run_unionfs(*arguments)
        assert (ended.status, ended.stderr) == (0, ""), describe(("unionfs", *arguments), ended)
        return ended.stdout

    def refusal(self, *arguments: str | Path, status: int = 1) -> str:
        """Run ``unionfs``, which shall fail with one line on stderr; that line, without the name of the program."""
        ended = self._run_unionfs(*arguments)
        is_one_line = ended.stderr.startswith("unionfs: ") and ended.stderr.endswith("\n") and ended.stderr.count("\n") == 1
        assert (ended.status, ended.stdout, is_one_line) == (status, "", True), describe(("unionfs", *arguments), ended)
        return ended.stderr.removeprefix("unionfs: ").rstrip("\n")

    def _run_unionfs(self, *arguments: str | Path) -> Ended:
        if self.preloaded:
            return preloaded.run(arguments, limit=TIMEOUT, environment=self.environment)
        return self.run("unionfs", *arguments)

    @contextlib.contextmanager
    def foreground(self, *arguments: str | Path, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        """Run ``unionfs mount --foreground`` until it says that it has mounted; killed at the end if it still runs."""
        command = [*prefix, BIN / "unionfs", "mount", "--foreground", *arguments]
        with started(command, environment=self.environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert select.select([process.stderr], [], [], TIMEOUT)[0], "no word on stderr"
            assert process.stderr.readline().endswith(": mounted; ctrl-C unmounts\n")
            yield process
            process.wait(TIMEOUT)

    def ls(self) -> list[dict[str, Any]]:
        """What ``unionfs ls`` lists."""
        listed: list[dict[str, Any]] = json.loads(self.unionfs("ls", "--json"))
        return listed

    def daemon_of(self, mountpoint: Path) -> int:
        """Process id of the daemon that serves ``mountpoint``."""
        return next(int(mount["pid"]) for mount in self.ls() if mount["mountpoint"] == str(mountpoint))

    def end_all(self) -> None:
        """Kill the daemons that are still there: those of a test that failed half-way."""
        for state_file in self.registry.glob("*/mount.json"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(state_file.read_text())["pid"], signal.SIGKILL)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    running = Programs(tmp_path / "run")
    yield running
    for mount in mounts_under(tmp_path):
        tear_down(mount)
    running.end_all()


class Layers(NamedTuple):
    """Directories for a union: two lowers with files, an empty upper, a mount point."""

    top: Path
    base: Path
    upper: Path
    merged: Path

    @property
    def arguments(self) -> tuple[str | Path, ...]:
        """Those of ``unionfs mount`` for a writable union of them."""
        return ("-l", self.top, "-l", self.base, "-u", self.upper, self.merged)


def make_layers(root: Path) -> Layers:
    """Make the directories below ``root``."""
    layers = Layers(root / "top", root / "base", root / "upper", root / "merged")
    for directory in layers:
        directory.mkdir(parents=True)
    (layers.base / "both").write_text("base\n")
    (layers.base / "base").write_text("base\n")
    (layers.top / "both").write_text("top\n")
    return layers


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return make_layers(tmp_path)


@pytest.fixture(params=["direct", "pyfuse3"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
