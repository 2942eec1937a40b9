"""Digests: what names content in images (OCI image specification, descriptor.md), always sha256 here."""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

from unionfs.store.errors import CorruptError

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(str):
    """``sha256:`` and 64 lower-case hexadecimal digits."""

    __slots__ = ()

    @property
    def hex(self) -> str:
        """The digits."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first twelve of them, as people are shown."""
        return self.hex[:12]


def parse_digest(text: object, thing: str = "digest") -> Digest:
    """``text`` as a digest; ``thing`` is what an error calls its place.

    Raises:
        CorruptError: it is none, or of another algorithm.
    """
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise CorruptError(thing, f"{text!r} is no sha256 digest", "make the archive anew")
    return Digest(text)


def digest_of(data: bytes) -> Digest:
    """The digest of ``data``."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


class HashingReader:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.count = 0
        """Bytes read so far."""

    def read(self, size: int = -1) -> bytes:
        """As the stream's."""
        data = self._stream.read(size)
        self._hash.update(data)
        self.count += len(data)
        return data

    def drain(self) -> None:
        """Read the rest, for its digest."""
        while self.read(1 << 20):
            pass

    @property
    def digest(self) -> Digest:
        """Of what was read so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")
