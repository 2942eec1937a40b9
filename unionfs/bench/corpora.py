"""Input data: generated once in a run, the same bytes in every run, shared by all measurements."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK = 1 << 20
"""Bytes of one block of random data."""


class Corpora:
    """Makes and keeps input data in ``directory``.  ``scale`` multiplies all sizes and counts (1: as in the titles)."""

    def __init__(self, directory: Path, scale: float = 1.0) -> None:
        self.directory = directory
        self.scale = scale

    def scaled(self, n: int) -> int:
        """``n`` at the scale of this run, at least 1."""
        return max(1, round(n * self.scale))

    def get(self, name: str, make: Callable[[Path], None]) -> Path:
        """The corpus ``name``: a path that does not exist yet is given to ``make``, which makes a file or a directory of it.

        It is made once; afterwards nobody may change it.  What a failed ``make`` has left is removed.
        """
        path = self.directory / name
        # Measurements run in processes of their own, so only the filesystem can tell what is there already.
        if not path.exists():
            unfinished = self.directory / f".{name}"
            try:
                make(unfinished)
                unfinished.rename(path)
            finally:
                if unfinished.is_dir():
                    shutil.rmtree(unfinished)
                else:
                    unfinished.unlink(missing_ok=True)
        return path


def random_blocks(size: int, seed: int) -> Iterator[bytes]:
    """``size`` incompressible bytes, in blocks of `BLOCK`: no filesystem may make holes of them."""
    source = random.Random(seed)  # noqa: S311  # the same in every run, on purpose
    while size > 0:
        block = source.randbytes(min(size, BLOCK))
        yield block
        size -= len(block)


def write_file(path: Path, blocks: Iterator[bytes]) -> None:
    """A new file of these blocks."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for block in blocks:
            os.write(fd, block)
    finally:
        os.close(fd)


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Up to ``size`` bytes of a file from ``offset`` on."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def write_small_files(root: Path, sizes: dict[str, int], seed: int) -> None:
    """Files below ``root`` (made if missing): path relative to it -> size in bytes.  Contents differ."""
    source = random.Random(seed)  # noqa: S311
    # Slices of one block, at random places: a call of randbytes for each of 100,000 files would take longer than writing them.
    largest = max(sizes.values(), default=0)
    block = source.randbytes(2 * largest)
    known: set[Path] = set()
    for name, size in sizes.items():
        path = root / name
        if path.parent not in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            known.add(path.parent)
        start = source.randrange(largest + 1)
        write_file(path, iter((block[start : start + size],)))


def empty_layer(corpora: Corpora) -> list[Path]:
    """One lower layer with one small file in it, for workloads that make all they need themselves."""
    return [corpora.get("base", lambda path: write_small_files(path, {"base": 16}, seed=1))]
