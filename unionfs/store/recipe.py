"""The recipe of a layer: what puts its tar together again, byte for byte, from the unpacked directory.

A layer is named by the digest of its tar, and an unpacked directory has lost what that depends on: the order of entries, the
kinds of header, padding.  So all of the tar that is not the content of a file in the directory is kept, compressed.

Format: a zlib stream of records, the last one an ``E``:

    ``R``, length (u32), bytes                                as they stand in the tar
    ``F``, size (u64), length of the path (u32), the path     the content of a file, by its path in the layer's directory
    ``S``, size (u64), length of the path (u32), the path     that of a file that a later entry of the tar replaced; it lies
                                                              beside the recipe, below NAME.replaced/
    ``E``

All numbers are little-endian.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from unionfs.linux.openat2 import open_beneath
from unionfs.store.errors import CorruptError

_KIND = struct.Struct("<c")
_RAW = struct.Struct("<I")
_FILE = struct.Struct("<QI")
_CHUNK = 1 << 20
_LEVEL = 6
_MOST_RAW = 1 << 16


def replaced_directory(recipe: Path) -> Path:
    """Where the files are kept that later entries of the same tar replaced."""
    return recipe.with_name(recipe.name + ".replaced")


class RecipeWriter:
    """Takes down a tar while it is unpacked; `save` writes it, when it is known which files were replaced."""

    def __init__(self) -> None:
        self._records: list[tuple[bytes, bytes | int, bytes]] = []  # ("R", compressed bytes, b"") or ("F"/"S", size, path)
        self._raw = bytearray()
        self._by_path: dict[bytes, int] = {}

    def raw(self, data: bytes) -> None:
        """Bytes of the tar that are in no file."""
        self._raw += data
        if len(self._raw) >= _MOST_RAW:
            self._flush()

    def _flush(self) -> None:
        if self._raw:
            # Compressed already here: the headers of a large tar take more memory than anything else.
            self._records.append((b"R", zlib.compress(self._raw, 1), b""))
            self._raw.clear()

    def file(self, path: bytes, size: int) -> None:
        """The content of the file that is unpacked at ``path`` comes here."""
        self._flush()
        self._by_path[path] = len(self._records)
        self._records.append((b"F", size, path))

    def replaced(self, path: bytes, kept_as: bytes) -> None:
        """What was at ``path``, a file or a directory of files, is moved to ``kept_as`` in the directory of what was replaced."""
        below = path + b"/"
        for known in [known for known in self._by_path if known == path or known.startswith(below)]:
            position = self._by_path.pop(known)
            _, size, _ = self._records[position]
            self._records[position] = (b"S", size, kept_as + known[len(path) :])

    def save(self, target: Path) -> None:
        """Write it to the new file ``target``.  Raises OSError: as open(2), write(2), fsync(2)."""
        self._flush()
        compressor = zlib.compressobj(_LEVEL)
        with open(target, "xb") as file:
            for kind, content, path in self._records:
                file.write(compressor.compress(_encode(kind, content, path)))
            file.write(compressor.compress(b"E"))
            file.write(compressor.flush())
            file.flush()
            os.fsync(file.fileno())


def _encode(kind: bytes, content: bytes | int, path: bytes) -> bytes:
    if isinstance(content, bytes):
        data = zlib.decompress(content)
        return kind + _RAW.pack(len(data)) + data
    return kind + _FILE.pack(content, len(path)) + path


def reassemble(diff: Path, recipe: Path) -> Iterator[bytes]:
    """The layer's tar, whose digest is the diff ID if nothing was changed.

    Raises:
        CorruptError: the recipe is damaged or gone, or a file of the layer is gone or of another size.
        OSError: reading failed.
    """
    with _opened(recipe) as file:
        records = _Records(file, recipe)
        places = {b"F": diff, b"S": replaced_directory(recipe)}
        while (kind := records.take(1)) != b"E":
            if kind == b"R":
                (length,) = _RAW.unpack(records.take(_RAW.size))
                yield records.take(length)
            elif kind in places:
                size, length = _FILE.unpack(records.take(_FILE.size))
                yield from _content(places[kind], records.take(length), size)
            else:
                raise records.damaged()


def _opened(recipe: Path) -> BinaryIO:
    try:
        return open(recipe, "rb")
    except FileNotFoundError as error:
        raise CorruptError(
            str(recipe), "the recipe of a layer is gone", "remove the images that use the layer, import them again"
        ) from error


class _Records:
    """The uncompressed bytes of a recipe."""

    def __init__(self, file: BinaryIO, recipe: Path) -> None:
        self._read: Callable[[int], bytes] = file.read
        self._recipe = recipe
        self._decompressor = zlib.decompressobj()
        self._ready = bytearray()

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        while len(self._ready) < count:
            data = self._decompressor.unconsumed_tail or self._read(_CHUNK)
            if not data:
                raise self.damaged()
            try:
                self._ready += self._decompressor.decompress(data, _CHUNK)
            except zlib.error as error:
                raise self.damaged() from error
        taken = bytes(self._ready[:count])
        del self._ready[:count]
        return taken

    def damaged(self) -> CorruptError:
        """What to raise where the bytes make no sense."""
        return CorruptError(
            str(self._recipe), "the recipe of a layer is damaged", "remove the images that use the layer, import them again"
        )


def _content(place: Path, path: bytes, size: int) -> Iterator[bytes]:
    thing = os.fsdecode(os.path.join(os.fsencode(place), path))
    try:
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Should a fifo be there now, opening it must not wait for a writer.
            fd = open_beneath(directory, path, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise
        raise CorruptError(
            thing, "a file of the layer is gone", "remove the images that use the layer, import them again"
        ) from error
    with open(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size != size:
            raise CorruptError(
                thing, f"a file of the layer has not its {size} bytes", "remove the images that use the layer, import them again"
            )
        while data := file.read(_CHUNK):
            yield data
