"""Image archives of a few files, made here byte by byte: whole ones, and ones with a fault."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unionfs.store.digest import digest_of

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def config_of(layers: Sequence[bytes], **more: object) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-06T07:08:09.5Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        **more,
    }
    return json.dumps(document).encode()


class Layout:
    """An OCI layout in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs/sha256").mkdir(parents=True)
        self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    def _write(self, name: str, data: bytes) -> None:
        (self.directory / name).write_bytes(data)

    def blob(self, data: bytes, media_type: str, **more: object) -> dict[str, Any]:
        digest = digest_of(data)
        self._write(f"blobs/sha256/{digest.hex}", data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def image(
        self, layers: Sequence[bytes], layer_type: str = "application/vnd.oci.image.layer.v1.tar+gzip", **more: object
    ) -> dict[str, Any]:
        packed = gzip.compress if layer_type.endswith("gzip") else bytes
        config = self.blob(config_of(layers), "application/vnd.oci.image.config.v1+json")
        blobs = [self.blob(packed(layer), layer_type) for layer in layers]
        manifest = {"schemaVersion": 2, "config": config, "layers": blobs}
        return self.blob(json.dumps(manifest).encode(), OCI_MANIFEST, **more)

    def index(self, *descriptors: dict[str, Any]) -> Path:
        self._write("index.json", json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode())
        return self.directory


def layout(directory: Path, *layers: bytes) -> Path:
    made = Layout(directory)
    return made.index(made.image(layers))


def docker_archive(path: Path, *layers: bytes, names: Sequence[str] = ("site/web:1.0",)) -> Path:
    files = {f"l{number}/layer.tar": layer for number, layer in enumerate(layers)}
    item = {"Config": "c.json", "RepoTags": list(names), "Layers": list(files)}
    path.write_bytes(tar_of({**files, "c.json": config_of(layers), "manifest.json": json.dumps([item]).encode()}))
    return path


def archived(directory: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as archive:
        archive.add(directory, ".")
    return target
