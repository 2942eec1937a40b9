"""Reading and writing one big file."""

from __future__ import annotations

import os
import random
from pathlib import Path

from unionfs.bench.corpora import BLOCK, empty_layer, random_blocks, read_at, write_file
from unionfs.bench.workload import Corpora, Place, Workload, expect

_SIZE = 256 << 20
_ACCESSES = 20_000
_PAGE = 4096


def _size(corpora: Corpora) -> int:
    # Whole blocks, also at a small scale.
    return max(1, corpora.scaled(_SIZE) // BLOCK) * BLOCK


def _big_layer(corpora: Corpora) -> Path:
    def make(path: Path) -> None:
        path.mkdir()
        write_file(path / "big", random_blocks(_size(corpora), seed=20))

    return corpora.get("big", make)


def _offsets(corpora: Corpora) -> list[int]:
    """Where the pages are that are read or written, in a random order."""
    source = random.Random(21)  # noqa: S311  # the same in every run, on purpose
    return [source.randrange(_size(corpora) // _PAGE) * _PAGE for _ in range(corpora.scaled(_ACCESSES))]


class SequentialRead:
    """A lower file, once from begin to end, in blocks of 1 MiB."""

    name = "sequential-read"
    title = "read 256 MiB, 1 MiB at a time"
    group = "data"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return [_big_layer(corpora)]

    def prepare(self, place: Place) -> None:  # noqa: ARG002
        self._read = 0
        self._last = b""

    def run(self, place: Place) -> None:
        fd = os.open(place.merged / "big", os.O_RDONLY)
        try:
            while block := os.read(fd, BLOCK):
                self._read += len(block)
                self._last = block
        finally:
            os.close(fd)

    def check(self, place: Place) -> None:
        expect("bytes read", self._read, _size(place.corpora))
        last = _page_at(_big_layer(place.corpora) / "big", _size(place.corpora) - _PAGE)
        expect("the last page is right", self._last.endswith(last), True)


class RandomRead:
    """A lower file, pages in a random order."""

    name = "random-read"
    title = "20,000 random reads of 4 KiB"
    group = "data"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return [_big_layer(corpora)]

    def prepare(self, place: Place) -> None:
        self._offsets = _offsets(place.corpora)
        self._last = b""

    def run(self, place: Place) -> None:
        fd = os.open(place.merged / "big", os.O_RDONLY)
        try:
            for offset in self._offsets:
                self._last = os.pread(fd, _PAGE, offset)
        finally:
            os.close(fd)

    def check(self, place: Place) -> None:
        expect("the last page is right", self._last == _page_at(_big_layer(place.corpora) / "big", self._offsets[-1]), True)


class SequentialWrite:
    """A new file, in blocks of 1 MiB; fsync at the end, or else a union that has written nothing yet would be the fastest."""

    name = "sequential-write"
    title = "write 256 MiB, 1 MiB at a time, fsync"
    group = "data"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return empty_layer(corpora)

    def prepare(self, place: Place) -> None:  # noqa: ARG002
        (self._block,) = random_blocks(BLOCK, seed=22)

    def run(self, place: Place) -> None:
        fd = os.open(place.merged / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            for _ in range(_size(place.corpora) // BLOCK):
                os.write(fd, self._block)
            os.fsync(fd)
        finally:
            os.close(fd)

    def check(self, place: Place) -> None:
        path = place.merged / "new"
        expect("size", os.stat(path).st_size if path.exists() else 0, _size(place.corpora))
        expect("the last page is right", _page_at(path, _size(place.corpora) - _PAGE) == self._block[-_PAGE:], True)


class RandomWrite:
    """A file in the upper, pages in a random order; fsync at the end."""

    name = "random-write"
    title = "20,000 random writes of 4 KiB, fsync"
    group = "data"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return empty_layer(corpora)

    def prepare(self, place: Place) -> None:
        write_file(place.merged / "pages", random_blocks(_size(place.corpora), seed=20))
        self._offsets = _offsets(place.corpora)
        (self._page,) = random_blocks(_PAGE, seed=23)

    def run(self, place: Place) -> None:
        fd = os.open(place.merged / "pages", os.O_WRONLY)
        try:
            for offset in self._offsets:
                os.pwrite(fd, self._page, offset)
            os.fsync(fd)
        finally:
            os.close(fd)

    def check(self, place: Place) -> None:
        path = place.merged / "pages"
        expect("size", os.stat(path).st_size, _size(place.corpora))
        for offset in (self._offsets[0], self._offsets[-1]):
            expect(f"the page at {offset} is right", _page_at(path, offset) == self._page, True)


def _page_at(path: Path, offset: int) -> bytes:
    return read_at(path, offset, _PAGE)


WORKLOADS: tuple[Workload, ...] = (SequentialRead(), RandomRead(), SequentialWrite(), RandomWrite())
