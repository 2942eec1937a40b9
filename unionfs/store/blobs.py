"""Configs of images, in ``blobs/HEX``: files named by what they hold.

A blob goes into its place, and away, within an immediate transaction, so that whoever adds one and whoever removes the same one
exclude
each other: a blob that no image names can be taken away without a row coming to need it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from unionfs.store.digest import Digest, digest_of
from unionfs.store.errors import CorruptError
from unionfs.store.staging import staged, sync_names

_DIRECTORY = "blobs"


class Blobs:
    """The blobs of the store at ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / _DIRECTORY

    def path(self, digest: Digest) -> Path:
        """Where it is."""
        return self._directory / digest.hex

    def put(self, data: bytes) -> Digest:
        """Keep ``data``, durably; its digest.  Within the transaction that names it.

        Raises:
            OSError: it cannot be written.
        """
        digest = digest_of(data)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with staged(self._root) as directory:
            new = directory / digest.hex
            with open(new, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path(digest))
        sync_names(self._directory)
        return digest

    def read(self, digest: Digest) -> bytes:
        """What is kept under ``digest``.

        Raises:
            CorruptError: it is gone, or was changed.
            OSError: it cannot be read.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptError(
                str(path), "the config of an image is gone", "remove the image (--force) and import it anew"
            ) from error
        if digest_of(data) != digest:
            raise CorruptError(str(path), "the config of an image was changed", "remove the image (--force) and import it anew")
        return data

    def discard(self, digest: Digest) -> None:
        """Take it away if it is there; within a transaction that shows that no image names it.

        Raises:
            OSError: it cannot be removed.
        """
        self.path(digest).unlink(missing_ok=True)

    def all(self) -> set[Digest]:
        """Those that are there."""
        with contextlib.suppress(FileNotFoundError):
            return {Digest(f"sha256:{name}") for name in os.listdir(self._directory)}
        return set()
