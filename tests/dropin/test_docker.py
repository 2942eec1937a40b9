"""dockerd with its storage driver ``fuse-overlayfs``, which runs the program of that name on PATH: a link to ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dropin.conftest import BIN, Place, needs
from tests.mounts import mounts_under, tear_down
from tests.programs import wait_until

pytestmark = needs("dockerd", "docker", "containerd", "runc")


class Docker:
    """One dockerd and its client."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.data = place.root / "data"
        # The name of a socket has 107 characters at most.
        self._socket = f"unix://{os.path.relpath(place.root / 's', place.root)}"

    def __call__(self, *arguments: str | Path) -> str:
        return self.place.run(["docker", "--host", self._socket, *arguments])

    def run(self, *arguments: str) -> str:
        return self("run", "--network", "none", *arguments)

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """Run it."""
        root = self.place.root
        command: list[str | Path] = ["dockerd", "--data-root", self.data, "--exec-root", root / "exec", "--pidfile", root / "pid"]
        command += ["--host", self._socket, "--iptables=false", "--ip6tables=false", "--bridge=none"]
        command += ["--storage-driver=fuse-overlayfs"]
        try:
            with self.place.daemon(command, answers=["docker", "--host", self._socket, "version"]):
                yield
        finally:
            # dockerd mounts its data root on itself, and takes that away at its next start only.
            for mount in mounts_under(self.data):
                if mount.mountpoint == self.data:
                    tear_down(mount)

    def remove_all(self) -> None:
        """Remove every container and image; no layer is left of them."""
        if containers := self("ps", "--all", "--quiet").split():
            self("rm", "--force", *containers)
        # By name, not by ID: an image that others are made of goes with the last of them.
        if images := self("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            self("rmi", "--force", *images)
        assert self("images", "--all", "--quiet") == ""
        layers = [path.name for path in (self.data / "fuse-overlayfs").iterdir() if path.name != "l"]
        assert layers == []
        assert self.place.our_mounts() == []


@pytest.fixture
def docker(place: Place) -> Iterator[Docker]:
    programs = place.root / "programs"
    programs.mkdir()
    (programs / "fuse-overlayfs").symlink_to(BIN / "fuse-unionfs")
    # The classic builder: BuildKit's client is a package of its own that Debian 12 does not have.
    environment = {**place.environment, "PATH": f"{programs}:{os.environ['PATH']}", "DOCKER_BUILDKIT": "0"}
    made = Docker(Place(place.root, environment))
    with made.daemon():
        made("import", place.root / "image.tar", "base:1")
        yield made
        made.remove_all()
    made.place.check_nothing_is_left()


def test_containers_run_on_our_mount_and_are_isolated(docker: Docker) -> None:
    assert "Storage Driver: fuse-overlayfs" in docker("info")
    assert " fuse.unionfs " in docker.run("--rm", "base:1", "cat", "/proc/self/mounts").splitlines()[0]
    for name in ("one", "two"):
        script = f"test ! -e /etc/mine; echo {name} > /etc/mine; cat /etc/mine; exec sleep 600"
        docker.run("--detach", "--name", name, "base:1", "sh", "-ec", script)
    wait_until(lambda: docker("logs", "one") == "one\n" and docker("logs", "two") == "two\n", "both containers")
    assert len(docker.place.our_mounts()) == 2


def test_build_with_run_steps_diff_and_commit(docker: Docker) -> None:
    docker("build", "--quiet", "--network", "none", "-t", "built:1", docker.place.root / "context")
    assert docker.run("--rm", "built:1") == "built\n"
    docker.run("--name", "changed", "built:1", "sh", "-c", "rm /built; echo new > /new")
    assert {"A /new", "D /built"} <= set(docker("diff", "changed").splitlines())
    docker("commit", "changed", "committed:1")
    assert docker.run("--rm", "committed:1", "sh", "-c", "cat /new; test ! -e /built && cat /again") == "new\nbuilt\n"
