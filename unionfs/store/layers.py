"""The layers of a store, by diff ID: each is there once, whoever uses it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unionfs.store.chunks import stream_of
from unionfs.store.database import Database
from unionfs.store.digest import Digest, HashingReader
from unionfs.store.errors import CorruptError, NotFoundError
from unionfs.store.pack import pack_layer
from unionfs.store.recipe import reassemble
from unionfs.store.staging import staged, sync, sync_names
from unionfs.store.unpack import Unpacked, unpack_layer

DIRECTORY = "layers"
_DIFF, _RECIPE = "diff", "recipe"
_UNUSED = """
    SELECT diff_id FROM layers WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)
    AND diff_id NOT IN (SELECT diff_id FROM snapshots WHERE diff_id IS NOT NULL)
"""


class Layer(NamedTuple):
    """A layer: the digest of its tar, its directory, bytes of the tar, bytes of its files, when it came into the store."""

    diff_id: Digest
    path: Path
    tar_size: int
    unpacked_size: int
    entries: int
    created: float


class Layers:
    """The layers of the store at ``root``."""

    def __init__(self, root: Path, database: Database) -> None:
        self._root = root
        self._database = database

    def path(self, diff_id: Digest) -> Path:
        """The directory of a layer, in the kernel OverlayFS's format, whether it is there or not."""
        return self._place(diff_id) / _DIFF

    def recipe(self, diff_id: Digest) -> Path:
        """What its tar is put together again by (`unionfs.store.recipe`)."""
        return self._place(diff_id) / _RECIPE

    def _place(self, diff_id: Digest) -> Path:
        return self._root / DIRECTORY / diff_id.hex

    # -- looking ------------------------------------------------------------------------------------------------------

    def get(self, diff_id: Digest) -> Layer:
        """That layer.

        Raises:
            NotFoundError: the store does not have it.
        """
        found = self._select("WHERE diff_id = ?", diff_id)
        if not found:
            raise NotFoundError(f"layer {diff_id}", "not in the store", "unionfs layer ls lists those that are")
        return found[0]

    def all(self) -> list[Layer]:
        """All of them, the oldest first."""
        return self._select("ORDER BY created, diff_id")

    def find(self, text: str) -> Layer:
        """The layer whose diff ID begins with ``text``, with or without ``sha256:``.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        wanted = text.removeprefix("sha256:")
        found = [layer for layer in self.all() if layer.diff_id.hex.startswith(wanted)] if wanted else []
        if len(found) != 1:
            problem = f"{len(found)} layers begin with that" if found else "not in the store"
            raise NotFoundError(f"layer {text}", problem, "unionfs layer ls lists those that are")
        return found[0]

    def _select(self, condition: str, *arguments: object) -> list[Layer]:
        rows = self._database.read(
            f"SELECT diff_id, tar_size, unpacked_size, entries, created FROM layers {condition}",  # noqa: S608  # constants
            *arguments,
        )
        return [
            Layer(Digest(str(diff_id)), self.path(Digest(str(diff_id))), *rest)  # type: ignore[arg-type]
            for diff_id, *rest in rows
        ]

    def users(self, diff_id: Digest) -> list[str]:
        """What needs the layer: ``image ID``, ``snapshot NAME``."""
        images = self._database.read("SELECT DISTINCT image FROM image_layers WHERE diff_id = ? ORDER BY 1", diff_id)
        snapshots = self._database.read("SELECT name FROM snapshots WHERE diff_id = ? ORDER BY 1", diff_id)
        return [f"image {Digest(str(image)).short}" for (image,) in images] + [f"snapshot {name}" for (name,) in snapshots]

    def verify(self, diff_id: Digest) -> None:
        """See whether all contents are what they were: the tar is put together again and hashed.

        Raises:
            NotFoundError: the store does not have it.
            CorruptError: something was changed, or is gone.
            OSError: it cannot be read.
        """
        layer = self.get(diff_id)
        reader = HashingReader(stream_of(reassemble(layer.path, self.recipe(diff_id))))
        reader.drain()
        if reader.digest != diff_id:
            raise CorruptError(
                f"layer {diff_id}",
                f"its files were changed: their digest is {reader.digest}",
                "remove the images that use it, import them again",
            )

    # -- adding -------------------------------------------------------------------------------------------------------

    def add_from_tar(
        self,
        stream: BinaryIO,
        expected: Digest | None = None,
        progress: Callable[[int], None] | None = None,
        *,
        thing: str = "layer",
    ) -> Layer:
        """Unpack an uncompressed tar, and make it known.  The caller holds `unionfs.store.leases.adding`.

        ``expected``: the diff ID that it should have; one that is there already is not read.  ``thing``: what errors call it.

        Raises:
            CorruptError: it is no sound tar, or of another digest.
            RefusedEntryError, StoreError, OSError: as `unpack_layer`; nothing of it is kept.
        """
        if expected is not None:
            with contextlib.suppress(NotFoundError):
                return self.get(expected)
        with staged(self._root) as directory:
            diff = directory / _DIFF
            diff.mkdir(0o755)
            unpacked = unpack_layer(stream, diff, directory / _RECIPE, thing=thing, progress=progress)
            if expected is not None and unpacked.diff_id != expected:
                raise CorruptError(
                    thing,
                    f"digest mismatch: its content has {unpacked.diff_id}, it should have {expected}",
                    "it is damaged or was changed: get it anew",
                )
            return self._install(directory, unpacked)

    def adopt(self, upper: Path) -> Layer:
        """A copy of a directory in the kernel OverlayFS's format becomes a layer, unless the store has it already.  The caller
        holds `unionfs.store.leases.adding`.

        Raises:
            StoreError: it depends on layers below it.
            OSError: it cannot be read, or there is no room for it.
        """
        with staged(self._root) as directory:
            # Unpacked from its own tar: so the recipe and the directory are certain to agree, and no mark of the union's
            # own is left in it.
            diff = directory / _DIFF
            diff.mkdir(0o755)
            unpacked = unpack_layer(stream_of(pack_layer(upper)), diff, directory / _RECIPE, thing=str(upper))
            return self._install(directory, unpacked)

    def _install(self, directory: Path, unpacked: Unpacked) -> Layer:
        sync(directory)
        diff_id = unpacked.diff_id
        place = self._place(diff_id)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM layers WHERE diff_id = ?", (diff_id,)).fetchone() is None:
                # One that no row names is what a killed process left; the transaction keeps others from making one now.
                with contextlib.suppress(FileNotFoundError):
                    os.rename(place, directory.with_name(f"{directory.name}-left"))
                os.rename(directory, place)
                place.chmod(0o755)
                sync_names(place.parent)
                connection.execute(
                    "INSERT INTO layers VALUES (?, ?, ?, ?, ?)",
                    (diff_id, unpacked.tar_size, unpacked.unpacked_size, unpacked.entries, time.time()),
                )
        return self.get(diff_id)

    # -- removing -----------------------------------------------------------------------------------------------------

    def unused(self) -> list[Layer]:
        """Those that neither an image nor a snapshot needs."""
        return self._select(f"WHERE diff_id IN ({_UNUSED})")

    def remove_unused(self) -> list[Layer]:
        """Remove them; what was removed.  The caller holds `unionfs.store.leases.collecting`.

        Raises:
            StoreError: the database failed.
            OSError: a directory cannot be removed; it is known no more, and collected the next time.
        """
        removed = []
        for layer in self.unused():
            with staged(self._root) as directory:
                try:
                    with self._database.transaction() as connection:
                        connection.execute("DELETE FROM layers WHERE diff_id = ?", (layer.diff_id,))
                        with contextlib.suppress(FileNotFoundError):
                            os.rename(self._place(layer.diff_id), directory / "layer")
                except sqlite3.IntegrityError:
                    continue  # somebody has begun to use it
                removed.append(layer)
        return removed

    def left_over(self) -> Iterator[Path]:
        """Directories of layers that no row names: what killed processes left.  The caller holds `collecting`."""
        known = {layer.diff_id.hex for layer in self.all()}
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._root / DIRECTORY):
                if entry.name not in known:
                    yield Path(entry.path)
