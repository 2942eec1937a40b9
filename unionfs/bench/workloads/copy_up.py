"""The first change of lower files."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.bench.corpora import random_blocks, read_at, write_file
from unionfs.bench.workload import Corpora, Place, Workload, expect
from unionfs.bench.workloads import small_tree

_FILES = 3_000
_BIG_SIZE = 1 << 30

BIG = "huge"
"""The name of the big file."""


def _append(path: str | Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, b"+")
    finally:
        os.close(fd)


def _expect_appended(path: str | Path, size: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        expect(f"size of {os.path.basename(path)}", os.fstat(fd).st_size, size + 1)
        expect(f"last byte of {os.path.basename(path)}", os.pread(fd, 2, size), b"+")
    finally:
        os.close(fd)


class SmallFiles:
    """One byte appended to each of many small files."""

    name = "copy-up-small"
    title = "append a byte to 3,000 lower files of 1.5 kB"
    group = "copy-up"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return small_tree.layers(corpora)

    def prepare(self, place: Place) -> None:
        self._names = small_tree.names(place.corpora)[: place.corpora.scaled(_FILES)]
        self._paths = [f"{place.merged}/{name}" for name in self._names]

    def run(self, place: Place) -> None:  # noqa: ARG002
        for path in self._paths:
            _append(path)

    def check(self, place: Place) -> None:
        layers = self.layers(place.corpora)
        for name, path in zip(self._names, self._paths, strict=True):
            _expect_appended(path, small_tree.size_of(name))
            lower = next(layer / name for layer in layers if (layer / name).exists())
            expect(f"size of {name} in its layer", os.stat(lower).st_size, small_tree.size_of(name))


class BigFile:
    """One byte appended to one big file."""

    name = "copy-up-big"
    title = "append a byte to a lower file of 1 GiB"
    group = "copy-up"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        def make(path: Path) -> None:
            path.mkdir()
            write_file(path / BIG, random_blocks(corpora.scaled(_BIG_SIZE), seed=40))

        return [corpora.get("huge", make)]

    def prepare(self, place: Place) -> None:
        """Nothing: the first change is what is measured."""

    def run(self, place: Place) -> None:
        _append(place.merged / BIG)

    def check(self, place: Place) -> None:
        size = place.corpora.scaled(_BIG_SIZE)
        _expect_appended(place.merged / BIG, size)
        (lower,) = self.layers(place.corpora)
        for offset in (0, size // 2):
            expect(f"the byte at {offset} is right", read_at(place.merged / BIG, offset, 1), read_at(lower / BIG, offset, 1))


WORKLOADS: tuple[Workload, ...] = (SmallFiles(), BigFile())
