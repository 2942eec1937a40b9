"""A foreign plugin in a process of its own, and our volumes that know it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unionfs.store.store import Store
from unionfs.volumes import VolumeManager, open_volumes
from unionfs.volumes.drivers.plugin.client import PluginClient
from unionfs.volumes.drivers.plugin.discovery import PluginDirectories, find_plugin
from unionfs.volumes.drivers.plugin.plugins import Plugins
from unionfs.volumes.drivers.plugin.timing import Timing

PROGRAM = Path(__file__).with_name("foreign_plugin.py")

LEISURELY = Timing(connecting=30.0, answering=60.0, answering_long=60.0)
"""For plugins that answer: a busy machine is no failure."""
HASTY = Timing(connecting=30.0, answering=60.0, answering_long=1.0)
"""For plugins that never answer to Create or Mount."""
IMPATIENT = Timing(connecting=30.0, answering=0.3, answering_long=0.3, trying=0.0)
"""For single calls that are never answered."""


class FakeClock:
    """Time passes only when somebody sleeps, and that takes none."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pauses: list[float] = []
        self.while_asleep: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.pauses.append(seconds)
        self.while_asleep()


class ForeignPlugin:
    """The other process.  See `foreign_plugin` for what is in its directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.where = ""
        directory.mkdir()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, self.directory, *self._options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.where = self._process.stdout.readline().strip()
        assert self.where

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def wait(self) -> None:
        """Until it has died of its own."""
        assert self._process is not None
        self._process.communicate(timeout=60)
        self._process = None

    def behave(self, **calls: dict[str, Any]) -> None:
        """Answer these calls (``Mount``, ``Activate``…) so from now on, the others well."""
        named = {f"Plugin.{call}" if call == "Activate" else f"VolumeDriver.{call}": how for call, how in calls.items()}
        aside = self.directory / "behaviour.new"
        aside.write_text(json.dumps(named))
        aside.rename(self.directory / "behaviour")

    @property
    def requests(self) -> list[dict[str, Any]]:
        """All that it was sent."""
        try:
            return [json.loads(line) for line in (self.directory / "requests").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @property
    def calls(self) -> list[str]:
        """The names of all calls, without their prefix."""
        return [request["call"].rpartition(".")[2] for request in self.requests]

    def bodies(self, call: str) -> list[str]:
        return [request["body"] for request in self.requests if request["call"].rpartition(".")[2] == call]

    def state(self) -> dict[str, Any]:
        """Its volumes."""
        found: dict[str, Any] = json.loads((self.directory / "state").read_text())
        return found

    def mounts(self, name: str) -> dict[str, int]:
        found: dict[str, int] = self.state()[name]["mounts"]
        return found


StartPlugin = Callable[..., ForeignPlugin]


@pytest.fixture
def start_plugin(tmp_path: Path) -> Iterator[StartPlugin]:
    """Makes a plugin: ``start_plugin(DIRECTORY, OPTION…)``."""
    started: list[ForeignPlugin] = []

    def start(directory: str = "foreign", *options: str) -> ForeignPlugin:
        plugin = ForeignPlugin(tmp_path / directory, *options)
        started.append(plugin)
        plugin.start()
        return plugin

    yield start
    for plugin in started:
        plugin.kill()


@pytest.fixture
def directories(tmp_path: Path) -> PluginDirectories:
    for name in ("sockets", "etc", "lib"):
        (tmp_path / name).mkdir()
    return PluginDirectories((tmp_path / "sockets",), (tmp_path / "etc", tmp_path / "lib"))


@pytest.fixture
def nas(start_plugin: StartPlugin, directories: PluginDirectories) -> ForeignPlugin:
    """A plugin that runs and is known as ``nas``."""
    plugin = start_plugin()
    (directories.files[0] / "nas.spec").write_text(f"unix://{plugin.where}\n")
    return plugin


@pytest.fixture
def client(directories: PluginDirectories, clock: FakeClock) -> PluginClient:
    """Speaks to the plugin nas."""
    return PluginClient("nas", lambda: find_plugin("nas", directories), clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def plugins_with(directories: PluginDirectories, clock: FakeClock, timing: Timing = LEISURELY) -> Plugins:
    """The plugins there, for each of whose answers so long is waited."""
    probing = Timing(timing.connecting, timing.answering, timing.answering_long, trying=0.0)
    return Plugins(directories, timing, probing, clock)


@pytest.fixture
def volumes(store: Store, directories: PluginDirectories, clock: FakeClock) -> VolumeManager:
    return open_volumes(store, plugins_with(directories, clock))


@pytest.fixture
def hasty(store: Store, directories: PluginDirectories, clock: FakeClock) -> VolumeManager:
    """Volumes that do not wait long for an answer to Create or Mount."""
    return open_volumes(store, plugins_with(directories, clock, HASTY))
