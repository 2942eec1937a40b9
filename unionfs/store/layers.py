"""The layers of a store, by diff ID: each is there once, whoever uses it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unionfs.store.database import Database
from unionfs.store.described import describe_layer
from unionfs.store.digest import Digest
from unionfs.store.errors import CorruptError, NotFoundError
from unionfs.store.full_disk import naming_a_full_disk
from unionfs.store.layer_check import check_layer
from unionfs.store.skipped import Skipped, load_skipped, save_skipped
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

    def skipped(self, diff_id: Digest) -> Skipped | None:
        """What the user who imported the layer could not set.

        Raises:
            CorruptError: the note of it was damaged.
            OSError: it cannot be read.
        """
        return load_skipped(self._place(diff_id))

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
        """See whether the layer is what it was: its tar is put together again and hashed, and the owners, modes, times,
        attributes, types and names of its files are compared with what that says.

        Raises:
            NotFoundError: the store does not have it.
            CorruptError: something was changed, or is gone.
            OSError: it cannot be read.
        """
        layer = self.get(diff_id)
        with staged(self._root) as workspace, naming_a_full_disk(f"layer {diff_id}"):
            check_layer(diff_id, layer.path, self.recipe(diff_id), self.skipped(diff_id), workspace)

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
        with naming_a_full_disk(thing), staged(self._root) as directory:
            diff = directory / _DIFF
            diff.mkdir(0o755)
            # A digest tells of a truncated archive as well as its end does.
            unpacked = unpack_layer(stream, diff, directory / _RECIPE, thing=thing, progress=progress, needs_end=expected is None)
            if expected is not None and unpacked.diff_id != expected:
                raise CorruptError(
                    thing,
                    f"digest mismatch: its content has {unpacked.diff_id}, it should have {expected}",
                    "it is damaged or was changed: get it anew",
                )
            return self._install(directory, unpacked)

    def adopt(self, directory: Path) -> Layer:
        """Move a directory that is a layer in the kernel OverlayFS's format, on the store's filesystem, into the store; if that
        has the layer already, it is removed.  The caller holds `unionfs.store.leases.adding`.

        Of the marks of a union it may have those of whiteouts and opaque directories alone (`Driver.commit` makes such ones).

        Raises:
            StoreError: it depends on layers below it, or the disk is full.
            OSError: it cannot be read.
        """
        with naming_a_full_disk(str(directory)), staged(self._root) as making:
            diff = making / _DIFF
            directory.rename(diff)
            return self._install(making, describe_layer(diff, making / _RECIPE))

    def _install(self, directory: Path, unpacked: Unpacked) -> Layer:
        save_skipped(directory, unpacked.skipped)
        sync(directory)
        diff_id = unpacked.diff_id
        place = self._place(diff_id)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with staged(self._root) as aside, self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM layers WHERE diff_id = ?", (diff_id,)).fetchone() is None:
                # One that no row names is what a killed process left; the transaction keeps others from making one now.
                with contextlib.suppress(FileNotFoundError):
                    os.rename(place, aside / "left")
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
            try:
                with self._database.transaction() as connection:
                    connection.execute("DELETE FROM layers WHERE diff_id = ?", (layer.diff_id,))
            except sqlite3.IntegrityError:
                continue  # somebody has begun to use it
            removed.append(layer)
            # Only now that the row is gone for good: a directory without a row is collected, a row without its directory would be
            # taken for a layer.  Nobody makes it anew meanwhile: whoever adds waits.
            with staged(self._root) as directory, contextlib.suppress(FileNotFoundError):
                os.rename(self._place(layer.diff_id), directory / "layer")
        return removed

    def left_over(self) -> Iterator[Path]:
        """Directories of layers that no row names: what killed processes left.  The caller holds `collecting`."""
        known = {layer.diff_id.hex for layer in self.all()}
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._root / DIRECTORY):
                if entry.name not in known:
                    yield Path(entry.path)
