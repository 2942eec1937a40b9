"""containerd: a mount of type ``fuse3.fuse-unionfs`` makes it run mount.fuse3, and that our program; a container runs on it."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator

import pytest

from tests.dropin.conftest import BIN, Place, needs

pytestmark = needs("containerd", "ctr", "mount.fuse3", "fusermount3", "runc")


@contextlib.contextmanager
def containerd(place: Place) -> Iterator[list[str]]:
    """Run it; yields the words that ``ctr`` begins with."""
    root = place.root
    (root / "config.toml").write_text(f"""
        version = 2
        root = "{root}/root"
        state = "{root}/state"
        disabled_plugins = ["io.containerd.grpc.v1.cri"]
        [grpc]
          address = "{root}/s"
        [ttrpc]
          address = "{root}/t"
    """)
    client = ["ctr", "--address", f"{root}/s"]
    with place.daemon(["containerd", "--config", root / "config.toml"], answers=[*client, "version"]):
        yield client


@pytest.fixture
def path_place(place: Place) -> Place:
    """With our programs on PATH, where mount.fuse3 looks for the type's."""
    return Place(place.root, {**place.environment, "PATH": f"{BIN}:{os.environ['PATH']}"})


def test_container_runs_on_a_mount_made_as_containerd_makes_it(path_place: Place) -> None:
    root = path_place.root
    lower, upper, work, merged = (root / name for name in ("lower", "upper", "work", "merged"))
    for directory in (lower, upper, work, merged):
        directory.mkdir()
    with tarfile.open(root / "image.tar") as archive:
        archive.extractall(lower, filter="tar")
    for name in ("proc", "dev", "sys", "run"):
        (lower / name).mkdir()
    # mount_linux.go, mountWithHelper: the type's prefix names the helper, the rest of it the program, after -t.
    options = f"workdir={work},upperdir={upper},lowerdir={lower},dev,suid"
    path_place.run(["mount.fuse3", "overlay", merged, "-o", options, "-t", "fuse-unionfs"])
    script = "cat /proc/self/mounts; echo made > /made; rm /bin/touch"
    with containerd(path_place) as ctr:
        run = [*ctr, "run", "--rm", "--env", "PATH=/bin", "--rootfs", str(merged), "container", "/bin/sh", "-ec", script]
        assert " fuse.unionfs " in path_place.run(run).splitlines()[0]
        assert path_place.run([*ctr, "containers", "list", "--quiet"]) == ""
    assert (upper / "made").read_text() == "made\n"
    assert (upper / "bin/touch").is_char_device()
    path_place.run(["fusermount3", "-u", merged])
    path_place.check_nothing_is_left()


def test_read_only_view_is_mounted_in_the_same_way(path_place: Place) -> None:
    root = path_place.root
    for name in ("a", "b", "merged"):
        (root / name).mkdir()
    (root / "a" / "file").write_text("a\n")
    options = f"lowerdir={root}/a:{root}/b,ro,dev,suid"
    path_place.run(["mount.fuse3", "overlay", root / "merged", "-o", options, "-t", "fuse-unionfs"])
    assert (root / "merged/file").read_text() == "a\n"
    with pytest.raises(OSError, match="Read-only"):
        (root / "merged/new").touch()
    path_place.run(["fusermount3", "-u", root / "merged"])
    path_place.check_nothing_is_left()
