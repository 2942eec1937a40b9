"""What every kind of image archive comes down to: a config and compressed layers, which are then added to the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from unionfs.store.compression import decompressed
from unionfs.store.digest import Digest, HashingReader
from unionfs.store.errors import CorruptError, NotFoundError
from unionfs.store.image_config import ImageConfig
from unionfs.store.images import Image
from unionfs.store.progress import Progress
from unionfs.store.reference import Reference
from unionfs.store.sources.blob import CheckedReader
from unionfs.store.store import Store


class LayerSource(Protocol):
    """A layer in an archive; ``thing`` is what errors call it, ``size`` its bytes as it is there."""

    thing: str
    size: int

    def open(self, progress: Callable[[int], None]) -> contextlib.AbstractContextManager[BinaryIO]:
        """Read it as it is there, compressed or not."""


@dataclass(frozen=True)
class ImageSource:
    """An image in an archive.  ``layers``: the bottom first."""

    config: bytes
    config_thing: str
    layers: Sequence[LayerSource]


def add_image(store: Store, source: ImageSource, name: Reference | None, progress: Progress) -> Image:
    """Add the image and those of its layers that the store does not have.

    The caller holds `unionfs.store.leases.adding`.

    Raises:
        CorruptError: something in it is not what its digest says, or malformed.
        StoreError, OSError: as `Layers.add_from_tar`.
    """
    diff_ids = ImageConfig.parse(source.config, source.config_thing).diff_ids
    if len(diff_ids) != len(source.layers):
        problem = f"names {len(diff_ids)} layers, its manifest {len(source.layers)}"
        raise CorruptError(source.config_thing, problem, "make the archive anew")
    for diff_id, layer in zip(diff_ids, source.layers, strict=True):
        _add_layer(store, layer, diff_id, progress.begin(f"layer {diff_id.short}", layer.size))
    return store.images.add(source.config, diff_ids, name)


def _add_layer(store: Store, layer: LayerSource, diff_id: Digest, progress: Callable[[int], None]) -> None:
    with layer.open(progress) as stream, _naming_the_first_fault(stream):
        content = decompressed(stream, layer.thing)
        if _has(store, diff_id):
            # Nothing of it is needed, but a damaged archive is to be told.
            _check(content, diff_id, layer.thing)
        else:
            store.layers.add_from_tar(content, diff_id, thing=layer.thing)


def _has(store: Store, diff_id: Digest) -> bool:
    try:
        store.layers.get(diff_id)
    except NotFoundError:
        return False
    return True


@contextlib.contextmanager
def _naming_the_first_fault(stream: BinaryIO) -> Iterator[None]:
    """A damaged blob makes bad gzip and bad tar of it; what is to be told is that its digest is wrong."""
    try:
        yield
    except CorruptError:
        if isinstance(stream, CheckedReader):
            stream.drain()
        raise


def _check(content: BinaryIO, diff_id: Digest, thing: str) -> None:
    reader = HashingReader(content)
    reader.drain()
    if reader.digest != diff_id:
        problem = f"digest mismatch: its content has {reader.digest}, the config says {diff_id}"
        raise CorruptError(thing, problem, "it is damaged or was changed: get it anew")


@contextlib.contextmanager
def counted(stream: BinaryIO, progress: Callable[[int], None]) -> Iterator[BinaryIO]:
    """A stream that tells ``progress`` of the bytes read, closed at the end."""
    with stream:
        yield cast(BinaryIO, _Counted(stream, progress))


class _Counted:
    def __init__(self, stream: BinaryIO, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._progress(len(data))
        return data
