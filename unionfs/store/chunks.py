"""Iterators of bytes and streams, one as the other."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast


def stream_of(chunks: Iterable[bytes]) -> BinaryIO:
    """A stream of what ``chunks`` gives; what that raises, reading raises."""
    return cast(BinaryIO, io.BufferedReader(_Chunks(iter(chunks)), 1 << 20))


def told(chunks: Iterable[bytes], tell: Callable[[int], None]) -> Iterator[bytes]:
    """``chunks``, with ``tell`` called with the size of each."""
    for chunk in chunks:
        tell(len(chunk))
        yield chunk


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
