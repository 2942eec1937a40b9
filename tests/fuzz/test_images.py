"""Image archives with a fault in one of their documents: an error of the store, which then has nothing new that could be seen."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from tests.fuzz.bounds import bounded, is_one_line, outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import NESTED, TEXTS, damaged, faulty, texts_of
from tests.store.images.made_images import OCI_MANIFEST, Layout, archived, config_of
from tests.store.tars import entry
from tests.store.tars import tar_of as layer_of
from unionfs.mounter.errors import MounterError
from unionfs.store.errors import StoreError
from unionfs.store.image_config import ImageConfig
from unionfs.store.sources.archive import import_image
from unionfs.store.sources.docker_archive import is_docker_archive, read_docker_archive
from unionfs.store.sources.files import ArchiveFiles, DirectoryFiles, Files
from unionfs.store.sources.oci_layout import is_oci_layout, read_oci_layout
from unionfs.store.store import Store

LAYER = layer_of(entry("file", b"content"))
CONFIG = {
    **json.loads(config_of([LAYER])),
    "history": [{"created": "2024-05-06T07:08:09Z", "created_by": "me"}],
    "config": {
        "Cmd": ["/bin/sh"],
        "Entrypoint": None,
        "Env": ["A=b"],
        "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"l": "1"},
        "User": "0:0",
        "StopSignal": "TERM",
    },
}
INDEX = "application/vnd.oci.image.index.v1+json"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@pytest.fixture(scope="module")
def store(new_directory: Callable[..., Path]) -> Any:
    with Store(new_directory(keep=True) / "store") as opened:
        yield opened


def bring_in(store: Store, source: Path) -> None:
    """An import that may fail, after which nothing is in the making."""
    found = outcome(lambda: import_image(store, source, None), MounterError)
    assert not isinstance(found, MounterError) or is_one_line(found)
    assert list(store.staging.iterdir()) == []


@effort(200)
@given(data=texts_of(CONFIG))
@example(NESTED)
@example(json.dumps({**CONFIG, "created": "2024-05-06T07:08:09." + "9" * 5000 + "Z"}).encode())
@example(json.dumps({**CONFIG, "created": "0001-01-01T00:00:00+23:59"}).encode())
@example(json.dumps({**CONFIG, "created": "٢٠٢٤-05-06T07:08:09Z"}).encode())
def test_config_is_read_or_corrupt(data: bytes) -> None:
    config = outcome(lambda: ImageConfig.parse(data), StoreError)
    if isinstance(config, ImageConfig):
        assert all(isinstance(word, str) for word in (*config.env, *config.cmd, *config.entrypoint, *config.volumes))


# -- OCI layouts ------------------------------------------------------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn) -> Callable[[Path], None]:
    """Makes a layout with a fault in one of its documents, whose digests are true to what they hold."""
    where = draw(st.sampled_from(["config", "manifest", "index", "oci-layout"]))

    def fault(name: str, document: Any) -> bytes:
        sound = json.dumps(document).encode()
        return draw(texts_of(document)) if name == where else sound

    def make(directory: Path) -> None:
        layout = Layout(directory)
        config = layout.blob(fault("config", CONFIG), CONFIG_TYPE)
        manifest = {"schemaVersion": 2, "config": config, "layers": [layout.blob(LAYER, PLAIN_LAYER)]}
        platform = {"os": "linux", "architecture": "amd64"}
        described = layout.blob(fault("manifest", manifest), OCI_MANIFEST, platform=platform, annotations={"a": "b"})
        (directory / "index.json").write_bytes(fault("index", {"schemaVersion": 2, "manifests": [described]}))
        (directory / "oci-layout").write_bytes(fault("oci-layout", {"imageLayoutVersion": "1.0.0"}))

    return make


@effort(100)
@given(make=layouts(), is_archive=st.booleans())
def test_layout_with_a_fault_is_imported_or_refused(
    new_directory: Callable[..., Path], store: Store, make: Callable[[Path], None], is_archive: bool
) -> None:
    base = new_directory()
    make(base / "layout")
    bring_in(store, archived(base / "layout", base / "layout.tar") if is_archive else base / "layout")


def test_indexes_in_circles_end(new_directory: Callable[..., Path]) -> None:
    layout = Layout(new_directory() / "layout")
    inner = layout.blob(json.dumps({"manifests": []}).encode(), INDEX)
    for _ in range(12):
        inner = layout.blob(json.dumps({"manifests": [inner]}).encode(), INDEX)
    with pytest.raises(StoreError, match="indexes more than 4 deep"):
        read_oci_layout(DirectoryFiles(layout.index(inner)), None)


def test_indexes_that_multiply_end(new_directory: Callable[..., Path]) -> None:
    layout = Layout(new_directory() / "layout")
    inner = layout.image([LAYER])
    for _ in range(4):
        inner = layout.blob(json.dumps({"manifests": [inner] * 200}).encode(), INDEX)
    with bounded(), pytest.raises(StoreError):
        read_oci_layout(DirectoryFiles(layout.index(inner)), None)


# -- archives of docker save ------------------------------------------------------------------------------------------------

MANIFEST = [{"Config": "c.json", "RepoTags": ["site/web:1.0"], "Layers": ["l/layer.tar"]}]


@effort(100)
@given(manifest=texts_of(MANIFEST), config=st.just(CONFIG) | faulty(CONFIG), is_archive=st.booleans())
@example(b'[{"Config": "c.json", "Layers": ["a\\u0000b"]}]', CONFIG, False)
@example(b'[{"Config": "\\ud800", "Layers": []}]', CONFIG, False)
@example(b'[{"Config": "' + b"x" * 5000 + b'", "Layers": []}]', CONFIG, False)
def test_docker_archive_with_a_fault_is_imported_or_refused(
    new_directory: Callable[..., Path], store: Store, manifest: bytes, config: Any, is_archive: bool
) -> None:
    base = new_directory()
    files = {"l/layer.tar": LAYER, "c.json": json.dumps(config).encode(), "manifest.json": manifest}
    if is_archive:
        (base / "save.tar").write_bytes(tar_of(files))
        bring_in(store, base / "save.tar")
        return
    for name, content in files.items():
        (base / "save" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "save" / name).write_bytes(content)
    bring_in(store, base / "save")


def tar_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


WHOLE = tar_of({"l/layer.tar": LAYER, "c.json": json.dumps(CONFIG).encode(), "manifest.json": json.dumps(MANIFEST).encode()})


def header_of(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@effort(100)
@given(data=damaged(WHOLE))
@example(header_of(1 << 40, tarfile.XHDTYPE) + bytes(2048))
@example(header_of(1 << 62, tarfile.GNUTYPE_LONGNAME) + bytes(2048))
@example(header_of(1 << 70, tarfile.XHDTYPE) + bytes(2048))
@example(header_of(0, tarfile.XHDTYPE) * 2000 + bytes(2048))
@example(header_of(512, tarfile.GNUTYPE_LONGNAME).ljust(1024, b"x") * 2000 + bytes(2048))
def test_damaged_archive_is_imported_or_refused(new_directory: Callable[..., Path], store: Store, data: bytes) -> None:
    archive = new_directory() / "save.tar"
    archive.write_bytes(data)
    bring_in(store, archive)


@effort(60)
@given(name=TEXTS)
def test_names_in_archives_lead_to_files_of_the_archive_alone(new_directory: Callable[..., Path], name: str) -> None:
    directory = new_directory()
    (directory / "inside").mkdir()
    (directory / "outside").write_bytes(b"secret")
    kinds: list[Files] = [DirectoryFiles(directory / "inside")]
    archive = directory / "a.tar"
    archive.write_bytes(tar_of({"file": b""}))
    with archive.open("rb") as file:
        kinds.append(ArchiveFiles(file, "a.tar"))
        for files in kinds:
            for asked in (name, f"../{name}", "../outside", str(directory / "outside"), "/etc/passwd"):
                assert not files.has(asked)
            assert not is_oci_layout(files)
            assert not is_docker_archive(files)
            with pytest.raises(StoreError):
                read_docker_archive(files, None)
