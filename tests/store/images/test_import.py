"""Importing images: every kind of source, told by what it holds; every fault in one named."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import zstandard

from tests.programs import run
from tests.store.images.conftest import nothing_visible
from tests.store.images.made_images import OCI_INDEX, Layout, archived, docker_archive, layout, tar_of
from unionfs.store.digest import digest_of
from unionfs.store.errors import CorruptError, NotFoundError, StoreError
from unionfs.store.gc import collect
from unionfs.store.platforms import host_platform
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
from unionfs.store.store import Store

BASE = tar_of({"etc/name": b"base\n", "bin/sh": b"x" * 5000})
TOP = tar_of({"etc/name": b"top\n", "etc/.wh.gone": b""})
NAME = parse_reference("site/web:1.0")


def gzipped_file(path: Path) -> Path:
    target = path.with_suffix(".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target


def source_of(kind: str, directory: Path) -> Path:
    if kind.startswith("oci"):
        made = layout(directory / "layout", BASE, TOP)
        return made if kind == "oci-dir" else archived(made, directory / "a.tar")
    made = docker_archive(directory / "d.tar", BASE, TOP)
    return gzipped_file(made) if kind == "docker-gz" else made


@pytest.mark.parametrize("kind", ["oci-dir", "oci", "docker", "docker-gz"])
def test_image_archive_keeps_config_and_layers(store: Store, tmp_path: Path, kind: str) -> None:
    image = import_image(store, source_of(kind, tmp_path), NAME)
    assert image.layers == (digest_of(BASE), digest_of(TOP))
    assert digest_of(store.images.blobs.read(image.id)) == image.id
    assert (image.names, image.config.cmd, image.created) == ((NAME,), ("/bin/sh",), 1714979289.5)
    assert (store.layers.path(image.layers[0]) / "etc/name").read_text() == "base\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_rootfs_tar_is_one_layer(store: Store, tmp_path: Path, pack: object) -> None:
    source = tmp_path / "rootfs"
    source.write_bytes(pack(BASE))  # type: ignore[operator]
    assert import_image(store, source, NAME).layers == (digest_of(BASE),)


def test_rootfs_directory_is_one_layer_with_its_files(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "rootfs"
    (source / "etc").mkdir(parents=True)
    (source / "etc/name").write_text("mine")
    (source / "manifest.json").write_text("{}")  # of an application, not of docker save
    (layer,) = import_image(store, source, NAME).layers
    assert (store.layers.path(layer) / "etc/name").read_text() == "mine"


def test_index_of_several_platforms_gives_that_of_this_machine(store: Store, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    ours = host_platform()
    mine = made.image([BASE], platform={"os": "linux", "architecture": ours.architecture, "variant": ours.variant})
    other = made.image([TOP], platform={"os": "linux", "architecture": "s390y"})
    index = made.blob(json.dumps({"manifests": [other, mine]}).encode(), OCI_INDEX)
    assert import_image(store, made.index(index), NAME).layers == (digest_of(BASE),)
    made.index(other)
    with pytest.raises(NotFoundError, match=f"no image for {ours}, only for linux/s390y"):
        import_image(store, made.directory, NAME)


def test_one_of_several_images_is_chosen_by_name(store: Store, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    key = "org.opencontainers.image.ref.name"
    source = made.index(made.image([BASE], annotations={key: "a"}), made.image([TOP], annotations={key: "b"}))
    with pytest.raises(StoreError, match="several images: a, b; choose one by --image"):
        import_image(store, source, NAME)
    assert import_image(store, source, NAME, selected="b").layers == (digest_of(TOP),)


@pytest.mark.parametrize("place", [0, 20, -1], ids=["head", "middle", "end"])
def test_changed_layer_blob_is_a_digest_mismatch(store: Store, tmp_path: Path, place: int) -> None:
    source = layout(tmp_path / "layout", BASE)
    blob = next(path for path in (source / "blobs/sha256").iterdir() if path.read_bytes().startswith(b"\x1f\x8b"))
    data = bytearray(blob.read_bytes())
    data[place] ^= 0xFF
    blob.write_bytes(data)
    with pytest.raises(CorruptError, match=f"layer sha256:{blob.name} of .*digest mismatch"):
        import_image(store, source, NAME)
    assert nothing_visible(store)
    assert store.layers.all() == []


def test_truncated_layer_blob_is_told_by_its_size(store: Store, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", BASE)
    blob = next(path for path in (source / "blobs/sha256").iterdir() if path.read_bytes().startswith(b"\x1f\x8b"))
    size = blob.stat().st_size
    os.truncate(blob, size - 7)
    with pytest.raises(CorruptError, match=f"has {size - 7} bytes instead of {size}"):
        import_image(store, source, NAME)
    assert nothing_visible(store)


def test_damaged_blob_of_a_layer_that_the_store_has_is_told_all_the_same(store: Store, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", BASE)
    import_image(store, source, NAME)
    blob = next(path for path in (source / "blobs/sha256").iterdir() if path.read_bytes().startswith(b"\x1f\x8b"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"\xee")
    with pytest.raises(CorruptError, match="digest mismatch"):
        import_image(store, source, NAME)


def test_missing_blob_is_named_before_anything_is_unpacked(store: Store, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", BASE, TOP)
    blob = tmp_path / f"layout/blobs/sha256/{digest_of(gzip.compress(TOP)).hex}"
    if not blob.exists():  # gzip puts the time into it
        blob = [path for path in sorted((source / "blobs/sha256").iterdir()) if path.read_bytes()[:2] == b"\x1f\x8b"][-1]
    blob.unlink()
    with pytest.raises(CorruptError, match=f"has no blobs/sha256/{blob.name}"):
        import_image(store, source, NAME)
    assert store.layers.all() == []


@pytest.mark.parametrize(
    ("media_type", "problem"),
    [
        ("application/x-squashfs", "unknown media type 'application/x-squashfs' for a layer"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "licence keeps out"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "licence keeps out"),
    ],
)
def test_media_type_that_is_no_layer_is_refused(store: Store, tmp_path: Path, media_type: str, problem: str) -> None:
    made = Layout(tmp_path / "layout")
    with pytest.raises(StoreError, match=problem):
        import_image(store, made.index(made.image([BASE], media_type)), NAME)


@pytest.mark.parametrize("kind", ["oci", "docker", "docker-gz"])
def test_truncated_archive_is_refused_wherever_it_ends(store: Store, tmp_path: Path, kind: str) -> None:
    source = source_of(kind, tmp_path)
    data = source.read_bytes()
    for size in range(1, len(data.rstrip(b"\0")) - 512, max(len(data) // 25, 1)):
        source.write_bytes(data[:size])
        try:
            image = import_image(store, source, NAME)
        except StoreError:
            continue
        # The end of a member, before the mark of an image archive: that is a tar of files.
        assert image.layers not in ((), (digest_of(BASE), digest_of(TOP)))


def test_docker_archive_with_another_layer_than_its_config_says_is_refused(store: Store, tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "d.tar", BASE)
    source.write_bytes(source.read_bytes().replace(b"base\n", b"BASE\n"))
    with pytest.raises(CorruptError, match="digest mismatch"):
        import_image(store, source, NAME)
    assert nothing_visible(store)


@pytest.mark.parametrize(
    ("data", "problem"), [(b"", "not a tar"), (b"no tar" * 200, "not a tar"), (b"BZh91AY" * 100, "with bzip2")]
)
def test_what_is_no_archive_is_refused(store: Store, tmp_path: Path, data: bytes, problem: str) -> None:
    source = tmp_path / "file"
    source.write_bytes(data)
    with pytest.raises(StoreError, match=problem):
        import_image(store, source, NAME)


def test_missing_source_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere: no such file"):
        import_image(store, tmp_path / "nowhere", NAME)


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", tar_of({"big": os.urandom(3 << 20)}))
    disk = tmp_path / "disk"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=1500k", "small", disk])
    try:
        with Store(disk / "store") as store:
            with pytest.raises((OSError, StoreError)) as failed:
                import_image(store, source, NAME)
            assert os.strerror(errno.ENOSPC) in str(failed.value)
            assert nothing_visible(store)
            assert store.layers.all() == []
            assert import_image(store, layout(tmp_path / "small", BASE), NAME).layers == (digest_of(BASE),)
    finally:
        run(["umount", disk])


KILLED = """
import os, signal, sys
from pathlib import Path
from unionfs.store.store import Store
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
left = int(sys.argv[3])
EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "open", "sqlite3.connect", "os.link", "os.chmod", "fcntl.flock")
def count(event, arguments):
    global left
    if event in EVENTS:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
store = Store(Path(sys.argv[1]))
sys.addaudithook(count)
import_image(store, Path(sys.argv[2]), parse_reference("site/web:1.0"))
"""


@pytest.mark.parametrize("moment", [1, 3, 6, 9, 12, 15, 18, 21, 24, 28, 32, 36])
def test_import_that_is_killed_leaves_all_or_nothing(tmp_path: Path, moment: int) -> None:
    source = layout(tmp_path / "layout", BASE, TOP)
    root = tmp_path / "store"
    ended = run([sys.executable, "-c", KILLED, root, source, str(moment)], status=None)
    assert ended.status in (-signal.SIGKILL, 0), ended.stderr
    with Store(root) as store:
        images = store.images.all()
        assert [image.layers for image in images] in ([], [(digest_of(BASE), digest_of(TOP))])
        for layer in store.layers.all():
            store.layers.verify(layer.diff_id)
        assert collect(store).is_complete
        assert list(store.staging.iterdir()) == []
        assert {path.name for path in (root / "layers").iterdir()} == {digest.hex for image in images for digest in image.layers}
        assert store.images.blobs.all() == {image.id for image in images}
        assert import_image(store, source, NAME).names == (NAME,)
