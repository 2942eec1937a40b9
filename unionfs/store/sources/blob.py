"""A stream whose bytes must have a digest that is known beforehand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import BinaryIO

from unionfs.store.digest import Digest
from unionfs.store.errors import CorruptError


class CheckedReader(io.RawIOBase):
    """Raises `CorruptError` at the end of the stream, and so before anything that was made of it counts, where size or digest
    differ.

    ``progress`` is told of the bytes read.
    """

    def __init__(self, stream: BinaryIO, digest: Digest, size: int, thing: str, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._digest = digest
        self._size = size
        self._thing = thing
        self._progress = progress
        self._hash = hashlib.sha256()
        self._count = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """As io.RawIOBase."""
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        if data:
            self._hash.update(data)
            self._count += len(data)
            self._progress(len(data))
        elif len(buffer):
            self._check()
        return len(data)

    def close(self) -> None:
        """Close the stream too."""
        self._stream.close()
        super().close()

    def drain(self) -> None:
        """Read the rest, and so check all of it.

        Raises:
            CorruptError: size or digest differ.
        """
        while self.read(1 << 20):
            pass

    def _check(self) -> None:
        if self._count != self._size:
            problem = f"has {self._count} bytes instead of {self._size}"
            raise CorruptError(self._thing, problem, "it is truncated or was changed: get it anew")
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise CorruptError(
                self._thing, f"digest mismatch: its bytes have {found}", "it is damaged or was changed: get it anew"
            )
