"""Compressed streams, told apart by their first bytes: gzip (RFC 1952), zstd (RFC 8878), plain."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal, cast

import zstandard

from unionfs.store.errors import CorruptError

Compression = Literal["plain", "gzip", "zstd"]

_MAGIC: tuple[tuple[bytes, Compression], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_CHUNK = 1 << 20
_PIECE = 1 << 10
"""Bytes of zstd that are decompressed at a time: a block of four may hold 128 KiB (RFC 8878, 3.1.1.2), so these 32 MiB."""
_GZIP_LEVEL = 6
_GZIP_WBITS = 31  # zlib: a gzip header and trailer around the largest window


def compression_of(head: bytes) -> Compression:
    """What a stream that begins with ``head`` (4 bytes or more) is."""
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "plain")


class _Decompressed(io.RawIOBase):
    """Turns what a decompressor raises into `CorruptError`."""

    def __init__(self, stream: BinaryIO, thing: str) -> None:
        self._stream = stream
        self._thing = thing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise CorruptError(self._thing, f"truncated or corrupt: {error}", "get it anew") from error
        buffer[: len(data)] = data
        return len(data)


def decompressed(stream: BinaryIO, thing: str) -> BinaryIO:
    """What ``stream`` holds, without its compression.  ``thing``: what errors call it.  Reading raises `CorruptError` where it is
    truncated or damaged."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, _Raw(stream)), _CHUNK)
    kind = compression_of(buffered.peek(4)[:4])
    if kind == "plain":
        return cast(BinaryIO, buffered)
    inner = cast(BinaryIO, gzip.GzipFile(fileobj=buffered) if kind == "gzip" else _Zstd(cast(BinaryIO, buffered)))
    return cast(BinaryIO, io.BufferedReader(_Decompressed(inner, thing), _CHUNK))


class _Zstd:
    """A zstd stream of one or more frames.  The library's own reader takes a truncated one for a short one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")
        self._is_inside = False

    def read(self, size: int) -> bytes | memoryview:
        while not self._ready:
            piece = self._stream.read(_PIECE)
            if not piece:
                if self._is_inside:
                    raise EOFError("it ends in the middle of a frame")
                return b""
            self._feed(piece)
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _feed(self, data: bytes) -> None:
        parts = []
        while data:
            parts.append(self._frame.decompress(data))
            self._is_inside = not self._frame.eof
            if not self._frame.eof:
                break
            data = self._frame.unused_data
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))


class _Raw(io.RawIOBase):
    """Lets a buffered reader read ahead of a stream that has ``read`` alone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``chunks`` as one gzip stream; the same bytes for the same content (no time, no name)."""
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    for chunk in chunks:
        part = compressor.compress(chunk)
        if part:
            yield part
    yield compressor.flush()
