"""Making, renaming and removing files in the upper."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.bench.corpora import empty_layer, random_blocks
from unionfs.bench.workload import Corpora, Place, Workload, expect
from unionfs.bench.workloads.small_tree import walk

_FILES = 5_000
_A_DIRECTORY = 100
_SIZE = 4096


class _NewFiles:
    """Files of 4 KiB in new directories, 100 in each."""

    group = "names"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return empty_layer(corpora)

    def _plan(self, place: Place) -> None:
        count = place.corpora.scaled(_FILES)
        self._directories = [place.merged / f"directory-{number:03}" for number in range(-(-count // _A_DIRECTORY))]
        self._paths = [f"{self._directories[number // _A_DIRECTORY]}/file-{number:05}" for number in range(count)]
        (self._data,) = random_blocks(_SIZE, seed=30)

    def _create(self) -> None:
        for directory in self._directories:
            os.mkdir(directory)
        for path in self._paths:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, self._data)
            os.close(fd)


class Create(_NewFiles):
    """open with O_CREAT, write, close."""

    name = "create"
    title = "create 5,000 files of 4 KiB"

    def prepare(self, place: Place) -> None:
        self._plan(place)

    def run(self, place: Place) -> None:  # noqa: ARG002
        self._create()

    def check(self, place: Place) -> None:
        expect("files", walk(place.merged), len(self._paths) + 1)
        expect("size of the last one", os.stat(self._paths[-1]).st_size, _SIZE)


class Rename(_NewFiles):
    """rename within the directory."""

    name = "rename"
    title = "rename 5,000 files"

    def prepare(self, place: Place) -> None:
        self._plan(place)
        self._create()

    def run(self, place: Place) -> None:  # noqa: ARG002
        for path in self._paths:
            os.rename(path, f"{path}-renamed")

    def check(self, place: Place) -> None:
        expect("files", walk(place.merged), len(self._paths) + 1)
        expect("files that have the new name", sum(os.path.exists(f"{path}-renamed") for path in self._paths), len(self._paths))


class Unlink(_NewFiles):
    """unlink of files that are in the upper only."""

    name = "unlink"
    title = "unlink 5,000 files"

    def prepare(self, place: Place) -> None:
        self._plan(place)
        self._create()

    def run(self, place: Place) -> None:  # noqa: ARG002
        for path in self._paths:
            os.unlink(path)

    def check(self, place: Place) -> None:
        expect("files left", walk(place.merged), 1)


WORKLOADS: tuple[Workload, ...] = (Create(), Rename(), Unlink())
