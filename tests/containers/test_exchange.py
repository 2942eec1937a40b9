"""What podman, buildah and skopeo make of an image that was committed and exported here: the same files, the same ID."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.dropin.conftest import needs, place
from tests.dropin.test_docker import Docker, docker
from tests.dropin.test_podman import Storage, storage
from unionfs.store.digest import digest_of

__all__ = ["docker", "place", "storage"]  # fixtures
pytestmark = needs("podman", "buildah", "skopeo", "runc")

TRANSPORTS = {"oci": "oci-archive", "oci-dir": "oci", "docker": "docker-archive"}
FORMATS = list(TRANSPORTS)

CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # include/uapi/linux/capability.h, struct vfs_cap_data

SCRIPT = """
set -e
rm /etc/group /bin/printf; rm -r /tmp
mkdir /tree /tree/deep; echo one >/tree/one; mv /tree /moved
rm -r /opt/app; mkdir /opt/app; echo new >/opt/app/new
echo appended >>/etc/file
umask 0
busybox mkdir -m 1777 /tmp
echo x >/owned; busybox chown 1000:50 /owned; busybox chmod 4750 /owned
busybox ln /owned /other-name
busybox ln -s ../etc/file /bin/link
busybox mkfifo /pipe
busybox mknod /null c 1 3
busybox dd if=/dev/zero of=/holes bs=1 count=1 seek=3000000 2>/dev/null
busybox touch -d @1234567890 /moved/one /moved /srv
echo up; exec sleep 1000
"""
FILES = {"opt/app/old": "old", "opt/app/old2": "old", "opt/kept": "kept", "srv/name with spaces": "ü"}

CHECK = "cat /etc/file; cat /opt/app/new; ls /opt/app; test ! -e /etc/group && busybox stat -c '%u:%g %a %h' /owned"
CHECKED = "image\nappended\nnew\nnew\n1000:50 4750 2\n"

MADE_FOR_THE_CONTAINER = ("proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf")
"""What is mounted on: in a layer of its own, which is no part of the image (docs/containers.md)."""


Description = tuple[str, int, int, int | None, dict[str, bytes], str | None, object]
"""Mode, owner, group, time, attributes, the first name of the same file, content."""

Committed = tuple[Engine, Mapping[str, Description], str]


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """A container that has changed all kinds of things, as it looks from inside, and the ID of the image of it."""
    engine = Engine(tmp_path_factory.mktemp("exchange") / "store")
    try:
        engine.add_image("app", FILES)
        engine.ok("run", "-d", "--name", "changed", "app", "sh", "-c", SCRIPT)
        engine.wait_for_output("changed", "up")
        identifier = engine.container("changed")["id"]
        rootfs = engine.root / "containers" / identifier / "rootfs"
        os.setxattr(rootfs / "moved/one", "security.capability", CAP_NET_RAW)
        os.setxattr(rootfs / "moved", "user.note", b"\0bytes\xff")
        os.utime(rootfs / "owned", ns=(1, 1_000_000_001_234_567_890))
        digest = engine.ok("commit", "changed", "app:changed", SOURCE_DATE_EPOCH="0").strip()
        seen = view(rootfs)
        assert [layer["problem"] for layer in json.loads(engine.ok("layer", "verify", "--json"))] == [None] * 4  # one is init
    finally:
        engine.end_all()
    # Cgroups that are not its own belong to another run of the tests, killed or at work.
    assert [left for left in engine.leftovers() if not left.startswith("/sys/fs/cgroup/") or identifier in left] == []
    return engine, seen, digest


def view(top: Path) -> dict[str, Description]:
    """All that is to be seen of the files of a root filesystem, by path."""
    found: dict[str, Description] = {}
    first_names: dict[int, str] = {}
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if not _is_made_for_the_container(top, directory, name))
        for name in (*names, *sorted(files)):
            if not _is_made_for_the_container(top, directory, name):
                path = os.path.join(directory, name)
                shown = os.path.relpath(path, top)
                found[shown] = _described(path, shown, first_names)
    return found


def _is_made_for_the_container(top: Path, directory: str, name: str) -> bool:
    return os.path.relpath(os.path.join(directory, name), top) in MADE_FOR_THE_CONTAINER


def _described(path: str, shown: str, first_names: dict[int, str]) -> Description:
    st = os.lstat(path)
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith("trusted.overlay.")
    }
    # The layer below the container's has the mount points, so the time of /etc is not that of the image.
    time = None if shown == "etc" else st.st_mtime_ns
    same_file = first_names.setdefault(st.st_ino, shown) if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode) else None
    content: object = st.st_rdev
    if stat.S_ISLNK(st.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(st.st_mode):
        content = (st.st_size, hashlib.sha256(Path(path).read_bytes()).hexdigest())
    return oct(st.st_mode), st.st_uid, st.st_gid, time, attributes, same_file, content


def exported(engine: Engine, kind: str, target: Path) -> str:
    """Where the image is then, as skopeo, podman and buildah are told."""
    engine.ok("image", "export", "--format", kind, "app:changed", target)
    return f"{TRANSPORTS[kind]}:{target}"


def test_the_container_has_changed_what_it_was_to(committed: Committed) -> None:
    """A view that is empty, or of the image as it was, would be equal to anything."""
    _, seen, _ = committed
    assert {"moved/deep", "moved/one", "opt/app/new", "opt/kept", "owned", "pipe", "null", "tmp"} <= seen.keys()
    assert not seen.keys() & {"etc/group", "bin/printf", "tree", "opt/app/old", "opt/app/old2", "proc"}
    assert seen["owned"] == seen["other-name"]
    mode, uid, gid, time, *_ = seen["owned"]
    assert (mode, uid, gid, time) == ("0o104750", 1000, 50, 1_000_000_001_234_567_890)
    assert seen["moved/one"][4] == {"security.capability": CAP_NET_RAW}


@pytest.mark.parametrize("kind", FORMATS)
def test_buildah_has_the_files_that_the_container_had(committed: Committed, storage: Storage, tmp_path: Path, kind: str) -> None:
    engine, seen, _ = committed
    container = storage.buildah("from", "--name", "working", exported(engine, kind, tmp_path / "out")).strip()
    mounted = Path(storage.buildah("mount", container).strip())
    found = view(mounted)
    storage.buildah("umount", container)
    storage.buildah("rm", container)
    assert found == seen
    storage.remove_all()


@pytest.mark.parametrize("kind", FORMATS)
def test_podman_loads_it_under_its_id_and_runs_it(committed: Committed, storage: Storage, tmp_path: Path, kind: str) -> None:
    engine, _, digest = committed
    source = exported(engine, kind, tmp_path / "out")
    if kind == "oci-dir":
        storage.podman("pull", "--quiet", source)
    else:
        assert "app:changed" in storage.podman("load", "--quiet", "--input", tmp_path / "out")
    assert f"sha256:{storage.podman('image', 'inspect', '--format', '{{.Id}}', digest.removeprefix('sha256:')).strip()}" == digest
    assert storage.run("--rm", digest.removeprefix("sha256:"), "sh", "-c", CHECK) == CHECKED
    storage.remove_all()


@needs("dockerd", "docker", "containerd")
def test_docker_loads_the_archive_of_its_format_under_its_id_and_runs_it(
    committed: Committed, docker: Docker, tmp_path: Path
) -> None:
    engine, _, digest = committed
    exported(engine, "docker", tmp_path / "out")
    assert "app:changed" in docker("load", "--input", tmp_path / "out")
    assert docker("image", "inspect", "--format", "{{.Id}}", "app:changed").strip() == digest
    assert docker.run("--rm", "app:changed", "sh", "-c", CHECK) == CHECKED


@pytest.mark.parametrize("kind", FORMATS)
def test_skopeo_reads_it_and_its_copy_comes_back_the_same(committed: Committed, tmp_path: Path, kind: str) -> None:
    engine, _, digest = committed
    source = exported(engine, kind, tmp_path / "out")
    config = subprocess.run(["skopeo", "inspect", "--config", "--raw", source], check=True, capture_output=True, timeout=60)
    assert digest_of(config.stdout) == digest
    inspected = subprocess.run(["skopeo", "inspect", source], check=True, capture_output=True, timeout=60)
    assert len(json.loads(inspected.stdout)["Layers"]) == 3
    subprocess.run(["skopeo", "copy", "-q", source, f"docker-archive:{tmp_path}/back:x:1"], check=True, timeout=60)
    assert engine.ok("image", "import", tmp_path / "back", "back").split()[1] == digest


def test_image_that_podman_has_changed_comes_back(committed: Committed, storage: Storage, tmp_path: Path) -> None:
    engine, seen, digest = committed
    storage.podman("load", "--quiet", "--input", exported(engine, "docker", tmp_path / "out").partition(":")[2])
    storage.run("--name", "more", digest.removeprefix("sha256:"), "sh", "-c", "rm /moved/one; rm -r /opt; echo more >/more")
    storage.podman("commit", "--quiet", "more", "more:1")
    storage.podman("save", "--quiet", "--format", "oci-archive", "--output", tmp_path / "more.tar", "more:1")
    engine.ok("image", "import", tmp_path / "more.tar", "more")
    script = "cat /more /etc/file; ls -d /moved/one /opt /moved/deep"
    ended = engine.run("run", "--rm", "more", "sh", "-c", script)
    assert ended.stdout == "more\nimage\nappended\n/moved/deep\n"
    assert ended.stderr.count("No such file") == 2
    assert "owned" in seen
    storage.remove_all()
