"""Images out of the store and back, by way of skopeo too: image ID and diff IDs stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.programs import run
from tests.store.images.made_images import docker_archive, layout, tar_of
from unionfs.store.digest import digest_of
from unionfs.store.errors import CorruptError, ExistsError, StoreError
from unionfs.store.export import Format, export_image
from unionfs.store.images import Image
from unionfs.store.pull import pull_image, source_of
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
from unionfs.store.store import Store

BASE, TOP = tar_of({"etc/name": b"base\n" * 900}), tar_of({"etc/name": b"top\n", "etc/.wh.gone": b""})
NAME = parse_reference("site/web:1.0")
FORMATS: tuple[Format, ...] = ("oci", "oci-dir", "docker")
TRANSPORTS = {"oci": "oci-archive", "oci-dir": "oci", "docker": "docker-archive"}


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    # One layer twice, as builds make it of empty steps.
    return import_image(store, layout(tmp_path / "layout", BASE, TOP, BASE), NAME)


def skopeo(*arguments: str) -> str:
    return run(["skopeo", *arguments]).stdout


def bytes_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", FORMATS)
def test_exported_image_comes_back_the_same(store: Store, image: Image, tmp_path: Path, kind: Format) -> None:
    export_image(store, image, tmp_path / "out", kind)
    with Store(tmp_path / "other") as other:
        again = import_image(other, tmp_path / "out", NAME)
    assert (again.id, again.layers) == (image.id, image.layers)


@pytest.mark.parametrize("kind", FORMATS)
def test_two_exports_have_the_same_bytes(store: Store, image: Image, tmp_path: Path, kind: Format) -> None:
    export_image(store, image, tmp_path / "one", kind)
    export_image(store, image, tmp_path / "two", kind)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("back", ["oci", "docker-archive"])
def test_skopeo_accepts_our_export_and_we_its_output(store: Store, image: Image, tmp_path: Path, kind: Format, back: str) -> None:
    export_image(store, image, tmp_path / "out", kind)
    source = f"{TRANSPORTS[kind]}:{tmp_path}/out"
    config = skopeo("inspect", "--config", "--raw", source)
    assert digest_of(config.encode()) == image.id
    skopeo("copy", source, f"{back}:{tmp_path}/back:site/web:1.0")
    with Store(tmp_path / "other") as other:
        again = import_image(other, tmp_path / "back", NAME)
    assert again.layers == image.layers
    if (kind, back) != ("docker", "oci"):  # for that skopeo writes a new config, as OCI has it
        assert again.id == image.id


def test_names_of_the_image_are_in_the_export(store: Store, image: Image, tmp_path: Path) -> None:
    export_image(store, image, tmp_path / "out", "oci-dir")
    index = json.loads((tmp_path / "out/index.json").read_bytes())
    assert [one["annotations"] for one in index["manifests"]] == [{"org.opencontainers.image.ref.name": "site/web:1.0"}]


def test_target_that_is_there_stays(store: Store, image: Image, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ExistsError, match="is there already"):
        export_image(store, image, tmp_path / "out", "oci")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("kind", FORMATS)
def test_export_of_a_changed_layer_fails_and_leaves_nothing(store: Store, image: Image, tmp_path: Path, kind: Format) -> None:
    (store.layers.path(image.layers[0]) / "etc/name").write_bytes(b"BASE\n" * 900)
    (tmp_path / "to").mkdir()
    with pytest.raises(CorruptError):
        export_image(store, image, tmp_path / "to/out", kind)
    assert list((tmp_path / "to").iterdir()) == []


def test_pull_goes_through_skopeo(store: Store, tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "d.tar", BASE, TOP)
    image = pull_image(store, f"docker-archive:{source}", NAME)
    assert (image.layers, image.names) == ((digest_of(BASE), digest_of(TOP)), (NAME,))
    assert list(store.staging.iterdir()) == []


def test_pull_that_fails_tells_what_skopeo_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"skopeo copy failed .*no such file") as failed:
        pull_image(store, f"oci:{tmp_path}/nowhere:x", NAME)
    assert "level=fatal" not in str(failed.value)
    assert list(store.staging.iterdir()) == []


def test_pull_without_skopeo_names_the_remedy(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match=r"skopeo: not installed.*apt-get install skopeo"):
        pull_image(store, "debian:12", None)


def test_pull_of_another_transport_needs_a_name(store: Store) -> None:
    assert source_of("host:5000/a:1") == "docker://host:5000/a:1"
    with pytest.raises(StoreError, match="makes no name") as refused:
        pull_image(store, "dir:/x", None)
    assert refused.value.exit_status == 2
