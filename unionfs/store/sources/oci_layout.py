"""OCI image layouts (OCI image specification, image-layout.md): ``oci-layout``, ``index.json`` and ``blobs/sha256/HEX``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from unionfs.store.digest import Digest, parse_digest
from unionfs.store.documents import MAX_SIZE, as_list, as_object, as_text, optional_object, parse_object
from unionfs.store.errors import CorruptError, NotFoundError, StoreError
from unionfs.store.media_types import OCI_MANIFEST, check_config, check_layer, is_index
from unionfs.store.platforms import Platform, host_platform
from unionfs.store.sources.blob import CheckedReader
from unionfs.store.sources.files import Files, missing, read_document
from unionfs.store.sources.image_source import ImageSource

MARK = "oci-layout"
_INDEX = "index.json"
_MAX_DEPTH = 4
"""Indexes in indexes; the specification allows any number, real ones have one."""

_MAX_MANIFESTS = 10_000
"""Images in one layout.  An index may name another many times, which may do the same: a few small ones would fill the memory."""

NAME_ANNOTATION = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
# What buildkit puts beside an image: a statement about it, not an image (buildkit, docs/attestations/attestation-storage.md).
_ATTESTATION = "vnd.docker.reference.type"


def is_oci_layout(files: Files) -> bool:
    """Whether it says that it is one.  A root filesystem may have a file of that name with other content."""
    if not files.has(MARK):
        return False
    with contextlib.suppress(CorruptError):
        return "imageLayoutVersion" in parse_object(read_document(files, MARK), MARK)
    return False


@dataclass(frozen=True)
class _Descriptor:
    """Of a blob (OCI image specification, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None
    names: tuple[str, ...]
    is_attestation: bool

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.digest.hex}"


def read_oci_layout(files: Files, selected: str | None) -> ImageSource:
    """The image in a layout: of several platforms the one for this machine; of several names the one ``selected``.

    Raises:
        CorruptError: something is missing, malformed, of an unknown media type, or not what its digest says.
        NotFoundError: there is none for this machine, or of that name.
        StoreError: there are several.
    """
    version = parse_object(read_document(files, MARK), f"{MARK} of {files.thing}").get("imageLayoutVersion")
    if not str(version).startswith("1."):
        raise CorruptError(files.thing, f"an OCI layout of version {version!r}, only 1 is known", "convert it with skopeo copy")
    index = parse_object(read_document(files, _INDEX), f"{_INDEX} of {files.thing}")
    manifest = _choose(files, _manifests(files, index, f"{_INDEX} of {files.thing}"), selected)
    return _read_image(files, manifest)


def _manifests(files: Files, index: Mapping[str, object], thing: str, depth: int = 0) -> list[_Descriptor]:
    if depth > _MAX_DEPTH:
        raise CorruptError(thing, f"indexes more than {_MAX_DEPTH} deep", "make the archive anew")
    found = []
    for item in as_list(index, "manifests", thing):
        descriptor = _descriptor(item, thing)
        if descriptor.is_attestation:
            continue
        name = f"{descriptor.digest} of {files.thing}"
        if is_index(descriptor.media_type, name):
            inner = parse_object(_read_blob(files, descriptor), name)
            # What the index is called its images are called.
            found += [_named(one, descriptor.names) for one in _manifests(files, inner, name, depth + 1)]
        else:
            found.append(descriptor)
        if len(found) > _MAX_MANIFESTS:
            raise CorruptError(thing, f"more than {_MAX_MANIFESTS} images", "make the archive anew")
    return found


def _named(descriptor: _Descriptor, names: tuple[str, ...]) -> _Descriptor:
    return _Descriptor(
        descriptor.media_type,
        descriptor.digest,
        descriptor.size,
        descriptor.platform,
        descriptor.names + names,
        descriptor.is_attestation,
    )


def _choose(files: Files, manifests: Sequence[_Descriptor], selected: str | None) -> _Descriptor:
    names = sorted({name for manifest in manifests for name in manifest.names})
    if selected is not None:
        manifests = [manifest for manifest in manifests if selected in manifest.names]
        if not manifests:
            raise NotFoundError(
                files.thing, f"has no image {selected}", f"choose one of: {', '.join(names) or 'it has no names'}"
            )
    if not manifests:
        raise CorruptError(files.thing, "has no image", "make the archive anew")
    fit = _fit(manifests, host_platform())
    if not fit:
        offered = sorted({str(manifest.platform) for manifest in manifests})
        raise NotFoundError(files.thing, f"has no image for {host_platform()}, only for {', '.join(offered)}", "get that one")
    if len({manifest.digest for manifest in fit}) > 1:
        raise StoreError(files.thing, f"has several images: {', '.join(names) or 'without names'}", "choose one by --image NAME")
    return fit[0]


def _fit(manifests: Sequence[_Descriptor], machine: Platform) -> list[_Descriptor]:
    """The best for this machine.  Where none tells its platform they are all the same to us."""
    grades = [(0 if manifest.platform is None else manifest.platform.fitness(machine), manifest) for manifest in manifests]
    possible = [(grade, manifest) for grade, manifest in grades if grade is not None]
    best = max((grade for grade, _ in possible), default=0)
    return [manifest for grade, manifest in possible if grade == best]


def _read_image(files: Files, descriptor: _Descriptor) -> ImageSource:
    thing = f"manifest {descriptor.digest} of {files.thing}"
    manifest = parse_object(_read_blob(files, descriptor), thing)
    declared = as_text(manifest, "mediaType", thing, descriptor.media_type)
    if is_index(declared, thing):
        raise CorruptError(thing, "calls itself an index, what names it calls it a manifest", "make the archive anew")
    config = _descriptor(manifest.get("config"), f"config in {thing}")
    check_config(config.media_type, f"config {config.digest} of {files.thing}")
    layers = [_descriptor(item, thing) for item in as_list(manifest, "layers", thing)]
    for layer in layers:
        name = f"layer {layer.digest} of {files.thing}"
        check_layer(layer.media_type, name)
        # Told before the first layer is unpacked, not after minutes.
        if not files.has(layer.path):
            raise missing(layer.path, files.thing)
    return ImageSource(
        _read_blob(files, config),
        f"config {config.digest} of {files.thing}",
        [_Layer(files, layer) for layer in layers],
    )


class _Layer:
    def __init__(self, files: Files, descriptor: _Descriptor) -> None:
        self.thing = f"layer {descriptor.digest} of {files.thing}"
        self.size = descriptor.size
        self._files = files
        self._descriptor = descriptor

    @contextlib.contextmanager
    def open(self, progress: Callable[[int], None]) -> Iterator[BinaryIO]:
        with _open_blob(self._files, self._descriptor, self.thing, progress) as stream:
            yield cast(BinaryIO, stream)


def _open_blob(files: Files, descriptor: _Descriptor, thing: str, progress: Callable[[int], None]) -> CheckedReader:
    return CheckedReader(files.open(descriptor.path), descriptor.digest, descriptor.size, thing, progress)


def _read_blob(files: Files, descriptor: _Descriptor) -> bytes:
    thing = f"{descriptor.path} of {files.thing}"
    if descriptor.size > MAX_SIZE or files.size(descriptor.path) > MAX_SIZE:
        raise CorruptError(thing, f"larger than {MAX_SIZE} bytes", "make the archive anew")
    with _open_blob(files, descriptor, thing, lambda _count: None) as stream:
        return stream.readall()


def _descriptor(item: object, thing: str) -> _Descriptor:
    document = as_object(item, f"descriptor in {thing}")
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise CorruptError(thing, f"{size!r} is no size of a blob", "make the archive anew")
    annotations = optional_object(document, "annotations", thing)
    names = (annotations.get(key) for key in (NAME_ANNOTATION, _CONTAINERD_NAME))
    return _Descriptor(
        # Old layouts of docker's leave the type of a manifest out.
        media_type=as_text(document, "mediaType", thing, OCI_MANIFEST),
        digest=parse_digest(document.get("digest"), thing),
        size=size,
        platform=_platform(document, thing),
        names=tuple(str(name) for name in names if name),
        is_attestation=_ATTESTATION in annotations,
    )


def _platform(document: Mapping[str, object], thing: str) -> Platform | None:
    platform = optional_object(document, "platform", thing)
    if not platform:
        return None
    return Platform(
        as_text(platform, "os", thing, "linux"),
        as_text(platform, "architecture", thing, ""),
        as_text(platform, "variant", thing, ""),
    )
