"""The tree that most workloads about names and small files use: 120 directories, 12,000 files, in two lower layers."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.bench.corpora import Corpora, write_small_files

_DIRECTORIES = 120
_FILES = 12_000
_SIZE = 1500
_SPREAD = 97
"""Sizes are up to this much larger than `_SIZE`, so that a byte of the wrong file shows in the sum."""


def names(corpora: Corpora) -> list[str]:
    """The paths of all files, relative to the root, directory by directory."""
    directories = directory_names(corpora)
    count = max(len(directories), corpora.scaled(_FILES))
    return sorted(f"{directories[number % len(directories)]}/file-{number:05}" for number in range(count))


def directory_names(corpora: Corpora) -> list[str]:
    """The paths of all directories, relative to the root."""
    return [f"directory-{number:03}" for number in range(corpora.scaled(_DIRECTORIES))]


def size_of(name: str) -> int:
    """Bytes of one of the files."""
    return _SIZE + int(name.rpartition("-")[2]) % _SPREAD


def layers(corpora: Corpora) -> list[Path]:
    """Two layers: every directory is in both, every other file in each."""

    def make_layer(index: int, path: Path) -> None:
        write_small_files(path, {name: size_of(name) for name in names(corpora)[index::2]}, seed=10 + index)

    return [corpora.get(f"small-tree-{index}", lambda path, index=index: make_layer(index, path)) for index in range(2)]  # type: ignore[misc]


def walk(root: Path) -> int:
    """lstat everything below ``root``; how many regular files there are.  What find(1) and ls -lR do."""
    files = 0
    pending = [os.fspath(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif status.st_nlink:
                    files += 1
    return files


def read_file(path: str) -> int:
    """Open, read and close one small file; how many bytes it has."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return len(os.read(fd, 1 << 16))
    finally:
        os.close(fd)
