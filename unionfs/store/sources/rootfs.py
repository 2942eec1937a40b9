"""Root filesystems: a tar, or a directory, becomes an image of one layer."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import BinaryIO

from unionfs.store.chunks import stream_of, told
from unionfs.store.compression import decompressed
from unionfs.store.image_config import new_config
from unionfs.store.images import Image
from unionfs.store.pack import pack_tree
from unionfs.store.progress import Progress
from unionfs.store.reference import Reference
from unionfs.store.sources.image_source import counted
from unionfs.store.store import Store


def import_tar(store: Store, file: BinaryIO, source: Path, name: Reference | None, progress: Progress) -> Image:
    """The tar, without its compression, is the layer as it is: whiteouts in it are whiteouts.

    Raises:
        StoreError, OSError: as `Layers.add_from_tar`.
    """
    tell = progress.begin(source.name, os.fstat(file.fileno()).st_size)
    with counted(file, tell) as stream:
        return _add(store, decompressed(stream, str(source)), source, name)


def import_directory(store: Store, source: Path, name: Reference | None, progress: Progress) -> Image:
    """What is in the directory, with owners, modes, times and attributes.

    Raises:
        StoreError, OSError: as `Layers.add_from_tar`, and where something in it cannot be read.
    """
    chunks = told(pack_tree(source), progress.begin(source.name, None))
    return _add(store, stream_of(chunks), source, name)


def _add(store: Store, stream: BinaryIO, source: Path, name: Reference | None) -> Image:
    layer = store.layers.add_from_tar(stream, thing=str(source))
    config = new_config([layer.diff_id], created=_now(), created_by=f"unionfs image import {source.name}")
    return store.images.add(config, [layer.diff_id], name)


def _now() -> float:
    # Reproducible builds: https://reproducible-builds.org/specs/source-date-epoch/
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return float(given) if given.isdecimal() else time.time()
