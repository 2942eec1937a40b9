"""What images take on the disk, and what is missing of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from unionfs.store.digest import Digest
from unionfs.store.images import Image
from unionfs.store.skipped import Skipped, total_of
from unionfs.store.store import Store


class Sizes(NamedTuple):
    """In bytes.  ``total`` is ``shared``, what other images use too, and ``unique``, what goes with the image."""

    total: int
    shared: int

    @property
    def unique(self) -> int:
        """What the image has alone."""
        return self.total - self.shared


def sizes_of(store: Store, images: Iterable[Image]) -> dict[Digest, Sizes]:
    """Of each of ``images``, which must be all of the store: a layer counts once however often an image has it."""
    images = list(images)
    sizes = {layer.diff_id: layer.unpacked_size for layer in store.layers.all()}
    users = Counter(diff_id for image in images for diff_id in set(image.layers))
    found = {}
    for image in images:
        layers = set(image.layers)
        total = sum(sizes.get(diff_id, 0) for diff_id in layers)
        shared = sum(sizes.get(diff_id, 0) for diff_id in layers if users[diff_id] > 1)
        found[image.id] = Sizes(total, shared)
    return found


def skipped_of(store: Store, image: Image) -> Skipped | None:
    """What the users who imported the layers of ``image`` could not set.

    Raises:
        CorruptError, OSError: as `Layers.skipped`.
    """
    return total_of(store.layers.skipped(diff_id) for diff_id in dict.fromkeys(image.layers))
