"""Whole trees, by the programs that people use for them: tar, chmod, chown, rm."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from unionfs.bench.corpora import empty_layer, write_small_files
from unionfs.bench.program import run_program
from unionfs.bench.workload import Corpora, Place, Workload, expect
from unionfs.bench.workloads.small_tree import walk

_SOURCES = 3_000
_REMOVED = 5_000


def _source_sizes(count: int) -> dict[str, int]:
    """A tree like that of a program's source: directories three deep, 30 files in each, from 100 bytes to 30 kB."""
    return {
        f"tree/part-{number // 300:02}/module-{number // 30:03}/source-{number:05}.c": 100 + number * number % 30_000
        for number in range(count)
    }


def _tree_layer(corpora: Corpora, count: int) -> Path:
    """A layer with the directory ``tree`` of that many files."""
    return corpora.get(f"tree-{count}", lambda path: write_small_files(path, _source_sizes(count), seed=50))


class Untar:
    """Extract an archive into the union."""

    name = "untar"
    title = "untar 3,000 files"
    group = "trees"
    requires: tuple[str, ...] = ("tar",)

    def layers(self, corpora: Corpora) -> list[Path]:
        return empty_layer(corpora)

    def _archive(self, corpora: Corpora) -> Path:
        tree = _tree_layer(corpora, corpora.scaled(_SOURCES))

        def make(path: Path) -> None:
            with tarfile.open(path, "w") as archive:
                archive.add(tree / "tree", "tree")

        return corpora.get("sources.tar", make)

    def prepare(self, place: Place) -> None:
        # Read once: what is measured is not where the archive comes from.
        self._tar = self._archive(place.corpora)
        self._tar.read_bytes()

    def run(self, place: Place) -> None:
        run_program(["tar", "-xf", self._tar, "-C", place.merged])

    def check(self, place: Place) -> None:
        sizes = _source_sizes(place.corpora.scaled(_SOURCES))
        expect("files", walk(place.merged), len(sizes) + 1)
        expect("sizes", {name: os.stat(place.merged / name).st_size for name in sizes}, sizes)


class _LowerTree:
    """A program run on ``tree``, which is in a lower layer."""

    group = "trees"

    def __init__(self, name: str, title: str, count: int, command: list[str]) -> None:
        self.name = name
        self.title = title
        self.requires: tuple[str, ...] = (command[0],)
        self._count = count
        self._command = command

    def layers(self, corpora: Corpora) -> list[Path]:
        return [_tree_layer(corpora, corpora.scaled(self._count))]

    def prepare(self, place: Place) -> None:
        """Nothing: the tree was never looked at in this mount."""

    def run(self, place: Place) -> None:
        run_program([*self._command, place.merged / "tree"])

    def _statuses(self, place: Place) -> Iterator[os.stat_result]:
        yield os.lstat(place.merged / "tree")
        for directory, directories, files in os.walk(place.merged / "tree"):
            for name in (*directories, *files):
                yield os.lstat(os.path.join(directory, name))


class Chmod(_LowerTree):
    """chmod -R."""

    def check(self, place: Place) -> None:
        modes = {stat.S_IMODE(status.st_mode) for status in self._statuses(place)}
        expect("modes", sorted(map(oct, modes)), ["0o700"])


class Chown(_LowerTree):
    """chown -R."""

    def check(self, place: Place) -> None:
        expect("owners", {(status.st_uid, status.st_gid) for status in self._statuses(place)}, {(1, 2)})


class Remove(_LowerTree):
    """rm -rf."""

    def check(self, place: Place) -> None:
        expect("names left", os.listdir(place.merged), [])
        (lower,) = self.layers(place.corpora)
        expect("files in the layer", walk(lower), place.corpora.scaled(self._count))


WORKLOADS: tuple[Workload, ...] = (
    Untar(),
    Chmod("chmod-tree", "chmod -R, 3,000 lower files", _SOURCES, ["chmod", "-R", "0700"]),
    Chown("chown-tree", "chown -R, 3,000 lower files", _SOURCES, ["chown", "-R", "1:2"]),
    Remove("remove-tree", "rm -rf, 5,000 lower files", _REMOVED, ["rm", "-rf"]),
)
