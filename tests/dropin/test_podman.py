"""podman and buildah, as root, with ``fuse-unionfs`` as the mount program of their overlay storage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dropin.conftest import BIN, LIMITS, Place, needs
from tests.mounts import mounts_under, tear_down

pytestmark = needs("podman", "buildah", "runc")


class Storage:
    """podman and buildah on one storage."""

    def __init__(self, place: Place, runroot: Path) -> None:
        self.place = place
        root = place.root
        self.graph = root / "graph"
        self._common: list[str | Path] = ["--root", self.graph, "--runroot", runroot, "--storage-driver", "overlay"]
        self._common += ["--storage-opt", f"overlay.mount_program={BIN / 'fuse-unionfs'}"]
        self._engine = ["--tmpdir", root / "libpod", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        self._engine += ["--events-backend", "file", "--network-config-dir", root / "networks"]

    def podman(self, *arguments: str | Path, status: int = 0) -> str:
        return self.place.run(["podman", *self._common, *self._engine, *arguments], status)

    def buildah(self, *arguments: str | Path) -> str:
        return self.place.run(["buildah", *self._common, *arguments])

    def run(self, *arguments: str | Path) -> str:
        return self.podman("run", "--network", "none", *LIMITS, *arguments)

    def remove_all(self) -> None:
        """Remove every container and image; no layer is left of them."""
        self.podman("rm", "--all", "--force", "--time", "0")
        self.podman("rmi", "--all", "--force")
        assert self.podman("images", "--quiet") == ""
        layers = [path.name for path in (self.graph / "overlay").iterdir() if path.is_dir() and path.name != "l"]
        assert layers == []
        self.place.check_nothing_is_left()


@pytest.fixture
def storage(place: Place) -> Iterator[Storage]:
    # Longer than 50 characters podman refuses, and a test's tmp_path is.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as runroot:
        made = Storage(place, Path(runroot))
        made.podman("import", "--quiet", place.root / "image.tar", "base:1")
        yield made
        assert list(mounts_under(Path(runroot))) == []
        # podman bind-mounts its storage on itself.
        for mount in mounts_under(made.graph):
            tear_down(mount)


def test_podman_knows_which_mount_program_it_uses(storage: Storage) -> None:
    options = json.loads(storage.podman("info", "--format", "json"))["store"]["graphOptions"]["overlay.mount_program"]
    assert options["Executable"] == str(BIN / "fuse-unionfs")
    assert options["Version"].startswith("fuse-unionfs: version ")
    storage.remove_all()


def test_container_runs_on_our_mount_and_two_of_one_image_are_isolated(storage: Storage) -> None:
    assert " fuse.unionfs " in storage.run("--rm", "base:1", "cat", "/proc/self/mounts").splitlines()[0]
    for name in ("one", "two"):
        assert storage.run("--name", name, "base:1", "sh", "-c", f"ls /etc/mine; echo {name} > /etc/mine; cat /etc/mine") == (
            f"{name}\n"
        )
    assert storage.podman("start", "--attach", "one") == "/etc/mine\none\n"
    storage.remove_all()


def test_diff_and_commit_see_what_the_container_changed(storage: Storage) -> None:
    storage.run("--name", "changed", "base:1", "sh", "-c", "echo new > /new; rm /bin/touch; mkdir /d; mv /d /e")
    changes = set(storage.podman("diff", "changed").splitlines())
    assert {"A /new", "A /e", "D /bin/touch", "C /bin"} <= changes
    assert not any(change.endswith(" /d") for change in changes)
    storage.podman("commit", "--quiet", "changed", "committed:1")
    assert storage.run("--rm", "committed:1", "sh", "-c", "cat /new; test ! -e /bin/touch && ls -d /e") == "new\n/e\n"
    storage.remove_all()


def test_ids_of_a_user_namespace_are_mapped_by_the_mount(storage: Storage) -> None:
    script = "stat -c %u:%g /bin/busybox; echo x > /mine; stat -c %u:%g /mine"
    mapping = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")
    assert storage.run("--rm", *mapping, "base:1", "sh", "-c", script) == "0:0\n0:0\n"
    storage.remove_all()


@pytest.mark.parametrize("isolation", ["chroot", "oci"])
def test_buildah_builds_with_run_steps_and_podman_runs_the_image(storage: Storage, isolation: str) -> None:
    oci = ["--runtime", "runc", "--network", "none"] if isolation == "oci" else []
    storage.buildah("build", "--isolation", isolation, *oci, *LIMITS, "--layers", "-t", "built:1", storage.place.root / "context")
    assert storage.run("--rm", "built:1") == "built\n"
    storage.remove_all()


def test_podman_builds_with_run_steps(storage: Storage) -> None:
    storage.podman("build", "--network", "none", *LIMITS, "-t", "built:1", storage.place.root / "context")
    assert storage.run("--rm", "built:1") == "built\n"
    storage.remove_all()


def test_removing_a_running_container_takes_its_mount_away(storage: Storage) -> None:
    storage.run("--detach", "--name", "sleeper", "base:1", "sleep", "600")
    assert len(storage.place.our_mounts()) == 1
    storage.remove_all()
