"""Images out of the store: as OCI layout (directory or tar), or as docker save writes them.

The config goes out as it came in, and the layers are put together again from their recipes, so image ID and diff IDs stay.  The
same
image gives the same bytes each time: no times, no owners, names in a fixed order.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

from unionfs.store.chunks import stream_of, told
from unionfs.store.compression import gzipped
from unionfs.store.digest import Digest, digest_of
from unionfs.store.documents import canonical
from unionfs.store.errors import CorruptError
from unionfs.store.images import Image
from unionfs.store.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from unionfs.store.progress import NoProgress, Progress
from unionfs.store.recipe import reassemble
from unionfs.store.reference import Reference
from unionfs.store.store import Store
from unionfs.store.targets import Target, directory_target, tar_target

Format = Literal["oci", "oci-dir", "docker"]
"""A tar with an OCI layout, a directory with one, or an archive of docker save."""

_NAME_ANNOTATION = "org.opencontainers.image.ref.name"


def export_image(
    store: Store,
    image: Image,
    target: Path,
    kind: Format,
    *,
    names: Sequence[Reference] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write ``image`` to ``target``, which is there when it is complete and not before.

    ``names``: what it is called there, all its names where none are given.

    Raises:
        ExistsError: ``target`` is there already.
        CorruptError: a layer or the config was changed in the store.
        OSError: it cannot be written.
    """
    export = _Export(store, image, image.names if names is None else tuple(names), progress or NoProgress())
    opened = directory_target if kind == "oci-dir" else tar_target
    with opened(target) as into:
        if kind == "docker":
            export.docker(into)
        else:
            export.oci(into)


class _Descriptor(NamedTuple):
    media_type: str
    digest: Digest
    size: int

    def document(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.digest.hex}"


class _Export:
    def __init__(self, store: Store, image: Image, names: tuple[Reference, ...], progress: Progress) -> None:
        self._store = store
        self._image = image
        self._names = names
        self._progress = progress
        self._config = store.images.blobs.read(image.id)

    def oci(self, target: Target) -> None:
        """image-layout.md of the OCI image specification."""
        target.directory("blobs")
        target.directory("blobs/sha256")
        layers = {diff_id: self._put_layer(target, diff_id) for diff_id in dict.fromkeys(self._image.layers)}
        config = _put(target, OCI_CONFIG, self._config)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.document(),
            "layers": [layers[diff_id].document() for diff_id in self._image.layers],
        }
        manifest = _put(target, OCI_MANIFEST, canonical(document)).document()
        manifests = [{**manifest, "annotations": {_NAME_ANNOTATION: str(name)}} for name in self._names] or [manifest]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        _put_document(target, "index.json", index)
        _put_document(target, "oci-layout", {"imageLayoutVersion": "1.0.0"})

    def docker(self, target: Target) -> None:
        """image/spec/v1.2.md of moby."""
        for diff_id in sorted(set(self._image.layers)):
            size = self._store.layers.get(diff_id).tar_size
            with contextlib.closing(stream_of(self._content(diff_id))) as stream:
                target.file(_docker_name(diff_id), size, stream)
        _put_bytes(target, f"{self._image.id.hex}.json", self._config)
        item: Mapping[str, object] = {
            "Config": f"{self._image.id.hex}.json",
            "RepoTags": [str(name) for name in self._names] or None,
            "Layers": [_docker_name(diff_id) for diff_id in self._image.layers],
        }
        _put_document(target, "manifest.json", [item])

    def _content(self, diff_id: Digest) -> Iterator[bytes]:
        """The layer's tar; its digest is checked once more at its end."""
        layer = self._store.layers.get(diff_id)
        found = hashlib.sha256()
        tell = self._progress.begin(f"layer {diff_id.short}", layer.tar_size)
        for chunk in told(reassemble(layer.path, self._store.layers.recipe(diff_id)), tell):
            found.update(chunk)
            yield chunk
        if f"sha256:{found.hexdigest()}" != diff_id:
            problem = f"digest mismatch: its content has sha256:{found.hexdigest()} now"
            raise CorruptError(f"layer {diff_id}", problem, "remove the image and import it anew")

    def _put_layer(self, target: Target, diff_id: Digest) -> _Descriptor:
        # A blob is named by the digest of what it holds compressed, which is known at its end alone.
        with tempfile.TemporaryFile(dir=target.workspace) as spool:
            found = hashlib.sha256()
            for chunk in gzipped(self._content(diff_id)):
                found.update(chunk)
                spool.write(chunk)
            descriptor = _Descriptor(OCI_LAYER_GZIP, Digest(f"sha256:{found.hexdigest()}"), spool.tell())
            spool.seek(0)
            target.file(descriptor.path, descriptor.size, cast(BinaryIO, spool))
        return descriptor


def _docker_name(diff_id: Digest) -> str:
    return f"{diff_id.hex}.tar"


def _put(target: Target, media_type: str, data: bytes) -> _Descriptor:
    descriptor = _Descriptor(media_type, digest_of(data), len(data))
    _put_bytes(target, descriptor.path, data)
    return descriptor


def _put_document(target: Target, name: str, document: object) -> None:
    _put_bytes(target, name, canonical(document))


def _put_bytes(target: Target, name: str, data: bytes) -> None:
    target.file(name, len(data), stream_of([data]))
