"""Archives of ``docker save`` (moby, image/spec/v1.2.md): ``manifest.json`` names a config and the tars of the layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

from unionfs.store.documents import as_object, as_text, as_texts, parse_json
from unionfs.store.errors import CorruptError, NotFoundError, StoreError
from unionfs.store.sources.files import Files, missing, read_document
from unionfs.store.sources.image_source import ImageSource, counted

MARK = "manifest.json"


def is_docker_archive(files: Files) -> bool:
    """Whether its manifest.json is one.  A root filesystem may have a file of that name with other content."""
    if not files.has(MARK):
        return False
    with contextlib.suppress(CorruptError):
        return is_manifest(parse_json(read_document(files, MARK), MARK))
    return False


def is_manifest(document: object) -> bool:
    """Whether that is what manifest.json of such an archive holds."""
    return isinstance(document, list) and all(isinstance(item, dict) and "Config" in item for item in document)


def read_docker_archive(files: Files, selected: str | None) -> ImageSource:
    """The image in an archive; of several the one ``selected`` by its name.

    Nothing in such an archive has a digest but the content of the layers (the diff IDs in the config).

    Raises:
        CorruptError: something is missing or malformed.
        NotFoundError: there is none of that name.
        StoreError: there are several.
    """
    thing = f"{MARK} of {files.thing}"
    document = parse_json(read_document(files, MARK), thing)
    if not isinstance(document, list):
        raise CorruptError(thing, "not a JSON list", "make the archive anew")
    item = _choose(files, [as_object(item, thing) for item in document], selected)
    config = as_text(item, "Config", thing)
    layers = as_texts(item, "Layers", thing)
    for layer in layers:
        # Told before the first layer is unpacked, not after minutes.
        if not files.has(layer):
            raise missing(layer, files.thing)
    return ImageSource(read_document(files, config), f"{config} of {files.thing}", [_Layer(files, layer) for layer in layers])


def _choose(files: Files, items: Sequence[Mapping[str, object]], selected: str | None) -> Mapping[str, object]:
    names = sorted({name for item in items for name in as_texts(item, "RepoTags", files.thing)})
    if selected is not None:
        items = [item for item in items if selected in as_texts(item, "RepoTags", files.thing)]
        if not items:
            raise NotFoundError(
                files.thing, f"has no image {selected}", f"choose one of: {', '.join(names) or 'it has no names'}"
            )
    if not items:
        raise CorruptError(files.thing, "has no image", "make the archive anew")
    if len(items) > 1:
        raise StoreError(files.thing, f"has several images: {', '.join(names)}", "choose one by --image NAME")
    return items[0]


class _Layer:
    def __init__(self, files: Files, name: str) -> None:
        self.thing = f"{name} of {files.thing}"
        self.size = files.size(name)
        self._files = files
        self._name = name

    @contextlib.contextmanager
    def open(self, progress: Callable[[int], None]) -> Iterator[BinaryIO]:
        with counted(self._files.open(self._name), progress) as stream:
            yield stream
