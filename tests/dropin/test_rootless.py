"""podman and buildah of a user without rights, who has subordinate ids and may open /dev/fuse."""

from __future__ import annotations

import shlex
import sys

import pytest

from tests.dropin.conftest import BIN, LIMITS, Place, needs
from tests.programs import run
from tests.rootless.test_behaviour import ROOT

pytestmark = needs("podman", "buildah", "runc", "newuidmap", "fusermount3")

_STORAGE = (
    f"--root $HOME/graph --runroot $HOME/runroot --storage-driver overlay --storage-opt overlay.mount_program={BIN}/fuse-unionfs"
)
_ENGINE = (
    "--tmpdir $HOME/libpod --runtime runc --cgroup-manager cgroupfs --events-backend file --network-config-dir $HOME/networks"
)
_PRELUDE = f"""
    cd $HOME
    podman() {{ command podman {_STORAGE} {_ENGINE} "$@" 2>>$HOME/errors; }}
    buildah() {{ command buildah {_STORAGE} "$@" 2>>$HOME/errors; }}
    run() {{ podman run --network none {shlex.join(LIMITS)} "$@"; }}
    trap 'status=$?; [ $status = 0 ] || cat $HOME/errors >&2' EXIT
    podman import --quiet image.tar base:1 >/dev/null
"""
# Of the graph only the directory of short names stays; a daemon of ours takes its registration away when it has ended.
_NOTHING_LEFT = """
    podman rm --all --force --time 0 >/dev/null
    podman rmi --all --force >/dev/null
    find graph/overlay -mindepth 1 -maxdepth 1 -type d ! -name l
    for try in $(seq 1000); do [ -z "$(ls run)" ] && break; sleep 0.02; done
    ls run
    podman unshare grep " $PWD/.* fuse.unionfs " /proc/self/mounts || true
    podman system migrate  # ends the process that holds the namespaces
"""


def as_user(place: Place, script: str) -> str:
    """Run shell commands as the user; what they print, after which nothing may be left."""
    home = place.root / "home"
    home.mkdir()
    home.joinpath("image.tar").hardlink_to(place.root / "image.tar")
    (place.root / "image.tar").chmod(0o644)
    (place.root / "context").rename(home / "context")
    command = [sys.executable, "-m", "tests.dropin.rootless_user", home, "sh", "-ec", f"{_PRELUDE}{script}{_NOTHING_LEFT}"]
    return run(command, cwd=ROOT, environment=place.environment).stdout


def test_containers_run_on_our_mount_and_own_their_files(place: Place) -> None:
    script = """
        run --rm base:1 cat /proc/self/mounts | head -n 1 | cut -d ' ' -f 3
        run --name changed base:1 sh -ec 'stat -c %u:%g /bin/busybox
            echo x > /mine; chown 7:7 /mine; stat -c %u:%g /mine; rm /bin/touch'
        podman diff changed | sort
        podman commit --quiet changed committed:1 >/dev/null
        run --rm committed:1 sh -c 'stat -c %u:%g /mine; ls /bin/touch || echo gone'
    """
    wanted = ["fuse.unionfs", "0:0", "7:7", "A /mine", "C /bin", "D /bin/touch", "7:7", "gone"]
    # podman makes /etc/… for every container.
    assert [line for line in as_user(place, script).splitlines() if not line.startswith("C /etc")] == wanted


@pytest.mark.parametrize("isolation", ["chroot", "rootless"])
def test_image_is_built_with_run_steps(place: Place, isolation: str) -> None:
    oci = f"--runtime runc --network none {shlex.join(LIMITS)}" if isolation == "rootless" else ""
    script = f"""
        buildah build --isolation {isolation} {oci} --layers -t built:1 context >/dev/null
        run --rm built:1
    """
    assert as_user(place, script) == "built\n"


def test_killed_container_leaves_nothing(place: Place) -> None:
    script = """
        run --detach --name sleeper base:1 sleep 600 >/dev/null
        podman kill --signal KILL sleeper
        podman wait sleeper
    """
    assert as_user(place, script) == "sleeper\n137\n"
