"""podman with volumes of our plugin."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dropin.conftest import LIMITS, Place, needs
from tests.dropin.volume_plugin import Plugin, served
from tests.mounts import mounts_under, tear_down
from tests.programs import run
from unionfs.adapters.volume_plugin.peers import PODMAN_ID, USER

pytestmark = needs("podman", "runc")


class Podman:
    """podman on a storage of its own, which knows our plugin."""

    def __init__(self, place: Place, runroot: Path, plugin: Plugin) -> None:
        self.plugin = plugin
        configuration = place.root / "containers.conf"
        configuration.write_text(f'[engine.volume_plugins]\n{plugin.name} = "{plugin.socket}"\n')
        self._place = Place(place.root, {**place.environment, "CONTAINERS_CONF": str(configuration)})
        root = place.root
        self.graph = root / "graph"
        self._command: list[str | Path] = ["podman", "--root", self.graph, "--runroot", runroot, "--storage-driver", "vfs"]
        self._command += ["--tmpdir", root / "libpod", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        self._command += ["--events-backend", "file", "--network-config-dir", root / "networks"]

    def __call__(self, *arguments: str | Path, status: int = 0) -> str:
        return self._place.run([*self._command, *arguments], status)

    def refusal(self, *arguments: str) -> str:
        """What podman says when it does not do something."""
        ended = run([*self._command, *arguments], status=None, environment=self._place.environment, cwd=self._place.root)
        assert ended.status != 0
        return ended.stderr

    def run(self, *arguments: str | Path) -> str:
        return self("run", "--network", "none", *LIMITS, *arguments)

    def sleeper(self, name: str, *arguments: str) -> None:
        """A container that runs until it is removed."""
        self.run("--detach", "--name", name, *arguments, "base:1", "sleep", "600")

    def create(self, name: str, *options: str) -> None:
        words = [word for option in options for word in ("-o", option)]
        assert self("volume", "create", "--driver", self.plugin.name, *words, name) == f"{name}\n"

    def remove(self, *containers: str) -> None:
        self("rm", "--force", "--time", "0", *containers)

    def remove_all(self) -> None:
        """Remove every container, image and volume with podman's own means."""
        self.remove("--all")
        self("volume", "rm", "--all")
        self("rmi", "--all", "--force")


@contextlib.contextmanager
def podman_of(place: Place, plugin: Plugin) -> Iterator[Podman]:
    """podman with an image ``base:1``; all that it has is removed at the end."""
    # Longer than 50 characters podman refuses, and a test's tmp_path is.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as runroot:
        made = Podman(place, Path(runroot), plugin)
        made("import", "--quiet", place.root / "image.tar", "base:1")
        yield made
        made.remove_all()
        assert list(mounts_under(Path(runroot))) == []
        # podman bind-mounts its storage on itself.
        for mount in mounts_under(made.graph):
            tear_down(mount)


@pytest.fixture
def podman(place: Place) -> Iterator[Podman]:
    with served(place) as plugin, podman_of(place, plugin) as made:
        yield made
    place.check_nothing_is_left()


def test_volume_is_made_used_shared_shown_and_removed(podman: Podman) -> None:
    podman.create("data")
    assert podman.run("--rm", "-v", "data:/data", "base:1", "sh", "-c", "echo kept > /data/file; ls /data") == "file\n"
    podman.sleeper("one", "-v", "data:/data")
    podman.sleeper("two", "-v", "data:/elsewhere")
    podman("exec", "one", "sh", "-c", "echo one >> /data/file")
    assert podman("exec", "two", "cat", "/elsewhere/file") == "kept\none\n"
    # However many use it, podman mounts it once.
    assert [(use.user, use.count) for use in podman.plugin.uses("data")] == [(USER + PODMAN_ID, 1)]
    (shown,) = json.loads(podman("volume", "inspect", "data"))
    assert (shown["Driver"], shown["Mountpoint"]) == (podman.plugin.name, str(podman.plugin.data("data")))
    assert podman("volume", "ls", "--format", "{{.Driver}} {{.Name}}") == f"{podman.plugin.name} data\n"
    podman("volume", "rm", "data", status=2)  # podman-volume-rm(1): it is used
    podman.remove("one", "two")
    assert podman.plugin.uses("data") == []
    podman("volume", "rm", "data")
    assert podman.plugin.unionfs("volume", "ls", "--quiet") == ""


def test_tmpfs_stays_mounted_between_podmans_commands(podman: Podman) -> None:
    podman.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    podman.sleeper("one", "-v", "fast:/data")
    # The command that had it mounted has ended, which means nothing.
    podman("exec", "one", "sh", "-c", "echo shared > /data/file")
    assert podman.run("--rm", "-v", "fast:/data", "base:1", "cat", "/data/file") == "shared\n"
    assert podman.plugin.is_mounted("fast")
    podman.remove("one")
    assert not podman.plugin.is_mounted("fast")


def test_plugin_killed_and_started_anew_goes_on_under_a_running_container(podman: Podman) -> None:
    podman.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    podman.sleeper("one", "-v", "fast:/data")
    podman.plugin.kill()
    podman.plugin.start()
    podman("exec", "one", "sh", "-c", "echo shared > /data/file")
    assert podman.run("--rm", "-v", "fast:/data", "base:1", "cat", "/data/file") == "shared\n"
    podman.remove("one")
    assert not podman.plugin.is_mounted("fast")


def test_volume_is_made_when_a_container_names_it_and_filled_from_the_image(podman: Podman) -> None:
    podman.create("new")
    assert "busybox" in podman.run("--rm", "-v", "new:/bin", "base:1", "ls", "/bin").split()
    assert (podman.plugin.data("new") / "busybox").is_file()


def test_prune_removes_what_no_container_names(podman: Podman) -> None:
    podman.create("used")
    podman.create("unused")
    podman.sleeper("one", "-v", "used:/data")
    assert podman("volume", "prune", "--force") == "unused\n"
    assert podman.plugin.unionfs("volume", "ls", "--quiet") == "used\n"


def test_volume_of_our_commands_is_taken_as_it_is(podman: Podman) -> None:
    podman.plugin.unionfs("volume", "create", "data")
    (podman.plugin.data("data") / "file").write_text("ours\n")
    podman.create("data")
    assert podman.run("--rm", "-v", "data:/data", "base:1", "cat", "/data/file") == "ours\n"
