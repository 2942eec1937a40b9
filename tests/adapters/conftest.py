"""A plugin that a test serves, in a process of its own as a user's is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.adapters.engine import ask
from tests.programs import TIMEOUT, started, wait_until
from unionfs.adapters.volume_plugin.calls import our_volumes
from unionfs.store.store import Store
from unionfs.volumes import VolumeManager

UNIONFS = Path(sys.executable).with_name("unionfs")


@dataclass
class Served:
    """What is served where."""

    root: Path
    socket: Path

    @property
    def command(self) -> list[str | Path]:
        return [UNIONFS, "plugin", "serve", "--root", self.root, "--socket", self.socket]

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Serve until the block ends."""
        environment = {**os.environ, "UNIONFS_RUNTIME_DIR": str(self.root.parent / "run")}
        with started(self.command, environment=environment, stderr=subprocess.PIPE) as process:
            wait_until(lambda: process.poll() is not None or self.answers(), "the plugin to answer")
            assert process.poll() is None
            yield process
            process.terminate()
            process.wait(TIMEOUT)

    def answers(self) -> bool:
        """Whether somebody serves."""
        try:
            return ask(self.socket, "Plugin.Activate") == (200, {"Implements": ["VolumeDriver"]})
        except OSError:
            return False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def volumes(store: Store) -> VolumeManager:
    return our_volumes(store)


@pytest.fixture
def place(tmp_path: Path) -> Served:
    """Where a plugin can be served, on the store of `store`."""
    return Served(tmp_path / "store", tmp_path / "plugin.sock")
