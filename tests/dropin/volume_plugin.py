"""Our volume plugin, served beside a test under a name that no other test has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.adapters.engine import ask
from tests.dropin.conftest import BIN, Place
from tests.mounts import mounts_under
from tests.programs import TIMEOUT, run, wait_until
from unionfs.adapters.volume_plugin.calls import our_volumes
from unionfs.store.store import Store
from unionfs.volumes import VolumeMount

DIRECTORY = Path("/run/docker/plugins")
"""Where dockerd looks; nothing can tell it to look elsewhere."""


class Plugin:
    """The plugin and the store whose volumes it serves."""

    def __init__(self, place: Place, socket: Path) -> None:
        self.place = place
        self.name = socket.stem
        self.socket = socket
        self.root = place.root / "store"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve; returns when it does."""
        command = [BIN / "unionfs", "plugin", "serve", "--root", self.root, "--socket", self.socket, "--verbose"]
        with (self.place.root / "plugin.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.place.environment, cwd=self.place.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._process = process
        wait_until(lambda: process.poll() is not None or self._answers(), "the plugin to answer")
        assert process.poll() is None, self.log()

    def _answers(self) -> bool:
        try:
            return ask(self.socket, "Plugin.Activate") == (200, {"Implements": ["VolumeDriver"]})
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(TIMEOUT)
        self._process = None

    def stop(self) -> None:
        """End it as a service manager does, if it runs; it ends well and takes its socket away."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(TIMEOUT) == 0, self.log()
        self._process = None
        assert not self.socket.exists()

    def log(self) -> str:
        """What it has said."""
        return (self.place.root / "plugin.log").read_text(errors="replace")

    def unionfs(self, *arguments: str | Path) -> str:
        """Our own command on the same store; what it printed."""
        environment = {
            **self.place.environment,
            "UNIONFS_ROOT": str(self.root),
            "UNIONFS_PLUGIN_DIRS": str(self.place.root / "no"),
        }
        return run([BIN / "unionfs", *arguments], environment=environment).stdout

    def described(self, volume: str) -> dict[str, Any]:
        """What ``volume inspect`` tells."""
        (found,) = json.loads(self.unionfs("volume", "inspect", volume))
        assert isinstance(found, dict)
        return found

    def uses(self, volume: str) -> list[VolumeMount]:
        """Who has it mounted."""
        with Store(self.root) as store:
            return our_volumes(store).mounts(volume)

    def is_mounted(self, volume: str) -> bool:
        """Whether something is mounted where the data of the volume is."""
        data = self.data(volume)
        return any(mount.mountpoint == data for mount in mounts_under(self.root))

    def data(self, volume: str) -> Path:
        """Where the data of a volume is."""
        return self.root / "volumes" / volume / "_data"

    def check_nothing_is_left(self) -> None:
        """No volume, no directory of one, no mount."""
        assert self.unionfs("volume", "ls", "--quiet") == ""
        assert list(self.root.glob("volumes/*")) == []
        assert list(mounts_under(self.root)) == []


@contextlib.contextmanager
def served(place: Place) -> Iterator[Plugin]:
    """A plugin with a store of its own, until the block ends; then nothing may be left in that."""
    plugin = Plugin(place, DIRECTORY / f"unionfs-test-{os.getpid()}.sock")
    plugin.start()
    try:
        yield plugin
        plugin.check_nothing_is_left()
    finally:
        with contextlib.ExitStack() as ending:
            ending.callback(plugin.socket.unlink, missing_ok=True)
            ending.callback(plugin.stop)
