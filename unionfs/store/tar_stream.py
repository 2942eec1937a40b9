"""Reading a tar once, forward only, while it is hashed and taken down for the recipe.

The headers are read by Python's `tarfile`; what it silently takes for the end of an archive (a damaged header in the middle, a
missing end) is an error here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, cast

from unionfs.store.digest import Digest, HashingReader
from unionfs.store.errors import CorruptError
from unionfs.store.recipe import RecipeWriter

_CHUNK = 1 << 20
_BLOCK = 512
_END = bytes(_BLOCK)
_LARGEST_HEADER = 16 << 20
"""Bytes.  An extended header holds names and attributes, a few hundred KiB at the very most; its length is whatever it claims."""


class _Recording:
    """What `tarfile` reads from: a stream with a position that only grows."""

    def __init__(self, stream: BinaryIO, recipe: RecipeWriter, progress: Callable[[int], None] | None) -> None:
        self.source = HashingReader(stream)
        self._recipe = recipe
        self._progress = progress
        self.last = b""
        """The last bytes that were read as headers."""

    def tell(self) -> int:
        return self.source.count

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self.source.count:
            raise tarfile.ReadError("a header points back")
        while self.source.count < position and self.read(min(_CHUNK, position - self.source.count)):
            pass
        return self.source.count

    def read(self, size: int = -1) -> bytes:
        """Bytes that go into the recipe."""
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self.take(size)
        self.last = data
        self._recipe.raw(data)
        return data

    def take(self, size: int) -> bytes:
        """Bytes that do not; fewer than ``size`` only at the end of the stream."""
        parts, missing = [], size
        while missing > 0 and (part := self.source.read(min(missing, _CHUNK))):
            parts.append(part)
            missing -= len(part)
            if self._progress is not None:
                self._progress(len(part))
        return parts[0] if len(parts) == 1 else b"".join(parts)


class TarStream:
    """The entries of one tar."""

    def __init__(
        self,
        stream: BinaryIO,
        thing: str,
        recipe: RecipeWriter,
        progress: Callable[[int], None] | None = None,
        *,
        needs_end: bool = True,
    ) -> None:
        """``thing``: what errors call the archive.  ``progress`` is told of the bytes that were read.  ``needs_end``: whether an
        archive that ends behind its last entry, with no mark of the end, is a truncated one."""
        self._needs_end = needs_end
        self._thing = thing
        self._recipe = recipe
        self._recording = _Recording(stream, recipe, progress)

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """The entries.  The content of one must be read (`content`, `sparse_content`) before the next is asked for.

        Raises:
            CorruptError: it is no tar, damaged, or truncated.
        """
        try:
            with tarfile.TarFile(
                fileobj=cast(BinaryIO, self._recording), mode="r", errors="surrogateescape", encoding="utf-8"
            ) as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or it would remember all of them
                    yield member
            if not self._is_at_end():
                raise self._corrupt("truncated or damaged: there is no end of the archive where the last entry ends")
            # What comes behind the end is part of what the digest is of.
            while self._recording.read(_CHUNK):
                pass
        except (tarfile.TarError, ValueError, OverflowError, IndexError, RecursionError, MemoryError) as error:
            if not self._needs_end and not self.size:
                return  # nothing at all, which tarfile takes for no archive
            raise self._corrupt(f"not a sound tar: {error}") from error

    def content(self, member: tarfile.TarInfo, path: bytes) -> Iterator[bytes]:
        """The content of a regular file, which is unpacked at ``path``; it must be read to its end."""
        self._recording.seek(member.offset_data)
        self._recipe.file(path, member.size)
        missing = member.size
        while missing:
            data = self._recording.take(min(missing, _CHUNK))
            if not data:
                raise self._corrupt(f"truncated in the content of {member.name!r}")
            missing -= len(data)
            yield data

    def sparse_content(self, member: tarfile.TarInfo) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of the pieces of a sparse file.  They stay in the recipe: the file does not tell how it was cut."""
        self._recording.seek(member.offset_data)
        pieces = cast("Sequence[tuple[int, int]]", member.sparse or ())
        for offset, size in pieces:
            if offset < 0 or size < 0 or offset + size > member.size:
                raise self._corrupt(f"{member.name!r} has a piece outside of itself")
            done = 0
            while done < size:
                data = self._recording.read(min(size - done, _CHUNK))
                if not data:
                    raise self._corrupt(f"truncated in the content of {member.name!r}")
                yield offset + done, data
                done += len(data)

    def _is_at_end(self) -> bool:
        # tarfile takes a damaged header for the end too.  Nothing at all is what is left behind the last entry without a mark.
        return self._recording.last == _END or (not self._needs_end and not self._recording.last)

    @property
    def digest(self) -> Digest:
        """Of all that was read: the diff ID, at the end."""
        return self._recording.source.digest

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._recording.source.count

    def _corrupt(self, problem: str) -> CorruptError:
        return CorruptError(self._thing, problem, "get it anew")
