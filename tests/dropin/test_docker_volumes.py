"""dockerd with volumes of our plugin."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.engine import ask
from tests.dropin.conftest import Place, needs
from tests.dropin.volume_plugin import Plugin, served
from tests.mounts import mounts_under, tear_down
from tests.programs import TIMEOUT, run, wait_until
from unionfs.mounter.processes import start_time

pytestmark = needs("dockerd", "docker", "containerd", "runc")


class Docker:
    """A dockerd that may be killed, and its client."""

    def __init__(self, place: Place, plugin: Plugin) -> None:
        self.place = place
        self.plugin = plugin
        self.data = place.root / "data"
        # The name of a socket has 107 characters at most.
        self._host = f"unix://{os.path.relpath(place.root / 's', place.root)}"
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, *arguments: str | Path) -> str:
        return self.place.run(["docker", "--host", self._host, *arguments])

    def refusal(self, *arguments: str) -> str:
        """What docker says when it does not do something."""
        return run(
            ["docker", "--host", self._host, *arguments], status=1, environment=self.place.environment, cwd=self.place.root
        ).stderr

    def run(self, *arguments: str) -> str:
        return self("run", "--network", "none", *arguments)

    def sleeper(self, name: str, *arguments: str) -> None:
        """A container that runs until it is removed."""
        self.run("--detach", "--name", name, *arguments, "base:1", "sleep", "600")

    def create(self, name: str, *options: str) -> None:
        words = [word for option in options for word in ("-o", option)]
        assert self("volume", "create", "-d", self.plugin.name, *words, name) == f"{name}\n"

    def start(self, *options: str) -> None:
        root = self.place.root
        command: list[str | Path] = ["dockerd", "--data-root", self.data, "--exec-root", root / "exec", "--pidfile", root / "pid"]
        command += [
            "--host",
            self._host,
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--storage-driver=vfs",
            *options,
        ]
        with (root / "dockerd.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.place.environment, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._process = process
        wait_until(lambda: process.poll() is not None or self._answers(), "dockerd to answer")
        assert process.poll() is None, (root / "dockerd.log").read_text(errors="replace")

    def _answers(self) -> bool:
        command = ["docker", "--host", self._host, "version"]
        return run(command, status=None, environment=self.place.environment, cwd=self.place.root).status == 0

    def kill(self) -> None:
        """SIGKILL.  Its containers go on; its containerd ends with it (libcontainerd, supervisor: Pdeathsig)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(TIMEOUT)
        self._process = None
        pidfile = self.place.root / "exec/containerd/containerd.pid"
        containerd = int(pidfile.read_text())
        wait_until(lambda: start_time(containerd) is None, "the end of containerd")
        # As a zombie, where process 1 waits for nobody, it looks alive to the next dockerd.
        pidfile.unlink()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(TIMEOUT)
            self._process = None

    def remove_containers(self) -> None:
        if containers := self("ps", "--all", "--quiet").split():
            self("rm", "--force", *containers)

    def remove_all(self) -> None:
        """Remove every container and volume with docker's own means."""
        self.remove_containers()
        if volumes := self("volume", "ls", "--quiet").split():
            self("volume", "rm", *volumes)


@contextlib.contextmanager
def docker_of(place: Place, plugin: Plugin) -> Iterator[Docker]:
    """dockerd with an image ``base:1``; all that it has is removed at the end."""
    made = Docker(place, plugin)
    try:
        made.start()
        made("import", place.root / "image.tar", "base:1")
        yield made
        made.remove_all()
    finally:
        made.stop()
        for mount in reversed(list(mounts_under(place.root))):
            # dockerd mounts its data root on itself, and takes that away at its next start only.
            if mount.mountpoint.is_relative_to(made.data):
                tear_down(mount)


@pytest.fixture
def docker(place: Place) -> Iterator[Docker]:
    with served(place) as plugin, docker_of(place, plugin) as made:
        yield made
    place.check_nothing_is_left()


def test_volume_is_made_used_shared_shown_and_removed(docker: Docker) -> None:
    docker.create("data")
    assert docker.run("--rm", "-v", "data:/data", "base:1", "sh", "-c", "echo kept > /data/file; ls /data") == "file\n"
    # It outlives the container, and two share it.
    docker.sleeper("one", "-v", "data:/data")
    docker.sleeper("two", "-v", "data:/elsewhere")
    docker("exec", "one", "sh", "-c", "echo one >> /data/file")
    assert docker("exec", "two", "cat", "/elsewhere/file") == "kept\none\n"
    assert len(docker.plugin.uses("data")) == 2
    (shown,) = json.loads(docker("volume", "inspect", "data"))
    assert (shown["Driver"], shown["Scope"]) == (docker.plugin.name, "local")
    assert shown["Mountpoint"] == str(docker.plugin.data("data"))
    assert shown["Status"] == {"driver": "local"}
    assert docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}") == f"{docker.plugin.name} data\n"
    assert "volume is in use" in docker.refusal("volume", "rm", "data")
    docker.remove_containers()
    assert docker.plugin.uses("data") == []
    docker("volume", "rm", "data")
    assert docker.plugin.unionfs("volume", "ls", "--quiet") == ""


def test_volumes_of_docker_and_of_our_commands_are_the_same(docker: Docker) -> None:
    docker.plugin.unionfs("volume", "create", "--label", "mine=1", "data")
    (docker.plugin.data("data") / "file").write_text("ours\n")
    assert (
        docker.run("--rm", "-v", "data:/data", "--volume-driver", docker.plugin.name, "base:1", "cat", "/data/file") == "ours\n"
    )
    docker.sleeper("user", "-v", "data:/data", "--volume-driver", docker.plugin.name)
    assert docker.plugin.described("data")["used_by"] == [docker.plugin.uses("data")[0].user.replace(":", " ")]


def test_volume_is_made_when_a_container_names_it_and_filled_from_the_image(docker: Docker) -> None:
    script = "ls /bin/busybox && echo x > /bin/mine"
    assert docker.run("--rm", "--volume-driver", docker.plugin.name, "-v", "new:/bin", "base:1", "sh", "-c", script)
    assert {"busybox", "sh", "mine"} <= {path.name for path in docker.plugin.data("new").iterdir()}


def test_wrong_option_is_told_to_the_user_of_docker(docker: Docker) -> None:
    wrong = docker.refusal("volume", "create", "-d", docker.plugin.name, "-o", "typ=tmpfs", "data")
    assert "typ: not an option of the driver local; give type, device, o" in wrong


def test_copy_into_a_running_container_does_not_unmount_under_it(docker: Docker) -> None:
    docker.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    docker.sleeper("user", "-v", "fast:/data")
    (use,) = docker.plugin.uses("fast")
    (docker.place.root / "file").write_text("copied\n")
    for _ in range(2):
        docker("cp", docker.place.root / "file", "user:/data/file")
        docker("cp", "user:/data/file", docker.place.root / "back")
    assert docker.plugin.is_mounted("fast")
    assert [(each.user, each.count) for each in docker.plugin.uses("fast")] == [(use.user, 1)]
    # What was copied is where the container and a second one look, not beneath.
    assert docker("exec", "user", "cat", "/data/file") == "copied\n"
    assert docker.run("--rm", "-v", "fast:/data", "base:1", "cat", "/data/file") == "copied\n"


def test_tmpfs_is_there_for_the_time_of_its_containers(docker: Docker) -> None:
    docker.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    docker.sleeper("one", "-v", "fast:/data")
    docker.sleeper("two", "-v", "fast:/data")
    docker("exec", "one", "sh", "-c", "echo shared > /data/file")
    docker("rm", "--force", "one")
    assert docker("exec", "two", "cat", "/data/file") == "shared\n"
    docker("rm", "--force", "two")
    assert not docker.plugin.is_mounted("fast")
    assert docker.run("--rm", "-v", "fast:/data", "base:1", "ls", "/data") == ""


def test_overlay_volume_is_a_copy_of_its_own_over_shared_data(docker: Docker) -> None:
    base = docker.place.root / "dataset"
    base.mkdir()
    (base / "file").write_text("base\n")
    for name in ("one", "two"):
        docker.create(name, "driver=overlay", f"lower={base}")
        script = f"cat /data/file; echo {name} > /data/file; cat /data/file"
        assert docker.run("--rm", "-v", f"{name}:/data", "base:1", "sh", "-c", script) == f"base\n{name}\n"
        assert not docker.plugin.is_mounted(name)
    assert docker.run("--rm", "-v", "one:/data", "base:1", "cat", "/data/file") == "one\n"
    assert (base / "file").read_text() == "base\n"


def test_plugin_killed_and_started_anew_goes_on_under_a_running_container(docker: Docker) -> None:
    docker.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    base = docker.place.root / "dataset"
    base.mkdir()
    docker.create("own", "driver=overlay", f"lower={base}")
    docker.sleeper("user", "-v", "fast:/fast", "-v", "own:/own")
    docker("exec", "user", "sh", "-c", "echo before > /fast/file; echo before > /own/file")
    docker.plugin.kill()
    assert docker("exec", "user", "sh", "-c", "cat /fast/file /own/file") == "before\nbefore\n"
    docker.plugin.start()
    assert docker("exec", "user", "sh", "-c", "cat /fast/file /own/file") == "before\nbefore\n"
    script = "cat /fast/file /own/file"
    assert docker.run("--rm", "-v", "fast:/fast", "-v", "own:/own", "base:1", "sh", "-c", script) == "before\nbefore\n"
    assert docker.plugin.is_mounted("fast")
    docker("rm", "--force", "user")
    assert not docker.plugin.is_mounted("fast")
    assert not docker.plugin.is_mounted("own")


def test_volume_can_be_removed_after_dockerd_was_killed(docker: Docker) -> None:
    docker.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    docker.create("data")
    docker.sleeper("user", "-v", "fast:/fast", "-v", "data:/data")
    docker.kill()
    assert len(docker.plugin.uses("data")) == 1
    docker.start()
    docker.remove_containers()
    docker("volume", "rm", "fast", "data")
    assert docker.plugin.unionfs("volume", "ls", "--quiet") == ""
    assert not docker.plugin.is_mounted("fast")


def test_container_that_outlives_dockerd_keeps_its_volume(docker: Docker) -> None:
    docker.stop()
    docker.start("--live-restore")
    docker.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
    docker.sleeper("user", "-v", "fast:/fast")
    docker("exec", "user", "sh", "-c", "echo kept > /fast/file")
    docker.kill()
    # Nobody has unmounted it, and the engine that has it mounted is dead: but its container lives.
    status, answer = ask(docker.plugin.socket, "VolumeDriver.Remove", Name="fast")
    assert (status, "the volume is in use by plugin" in answer["Err"]) == (500, True)
    docker.start("--live-restore")
    assert docker("exec", "user", "cat", "/fast/file") == "kept\n"
    docker("cp", "user:/fast/file", docker.place.root / "back")
    assert docker.run("--rm", "-v", "fast:/fast", "base:1", "cat", "/fast/file") == "kept\n"
    docker.remove_containers()
    docker("volume", "rm", "fast")
    assert not docker.plugin.is_mounted("fast")
