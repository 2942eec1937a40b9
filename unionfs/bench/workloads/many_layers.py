"""Lookups in unions of many layers.  Names and directories are the same whatever their number."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.bench.corpora import write_small_files
from unionfs.bench.workload import Corpora, Place, Workload, expect
from unionfs.bench.workloads.lookup import count_absent

LAYERS = (1, 10, 100, 500)
"""500 is what the kernel's OverlayFS can do (``OVL_MAX_STACK``)."""

_NAMES = 2_000
_DIRECTORIES = 10


class _ManyLayers:
    """2,000 files in 10 directories that all layers have; each layer has its share of the files."""

    group = "layers"
    requires: tuple[str, ...] = ()

    def __init__(self, name: str, title: str, count: int) -> None:
        layers = "1 layer" if count == 1 else f"{count} layers"
        self.name = f"{name}-{count}"
        self.title = f"{title}, {layers}"
        self._count = count

    def layers(self, corpora: Corpora) -> list[Path]:
        def make(path: Path) -> None:
            names = self._names(corpora)
            for number in range(self._count):
                layer = path / str(number)
                for directory in range(corpora.scaled(_DIRECTORIES)):
                    (layer / f"directory-{directory}").mkdir(parents=True)
                write_small_files(layer, dict.fromkeys(names[number :: self._count], 16), seed=60 + number)

        root = corpora.get(f"layers-{self._count}", make)
        return [root / str(number) for number in range(self._count)]

    def _names(self, corpora: Corpora) -> list[str]:
        directories = corpora.scaled(_DIRECTORIES)
        return [f"directory-{number % directories}/file-{number}" for number in range(corpora.scaled(_NAMES))]

    def _unknown_names(self, place: Place) -> list[str]:
        """One for each directory."""
        return [f"{place.merged}/directory-{number}/absent" for number in range(place.corpora.scaled(_DIRECTORIES))]

    def prepare(self, place: Place) -> None:
        self._paths = [f"{place.merged}/{name}" for name in self._names(place.corpora)]
        self._found = 0
        # What a union does when it first looks into a directory is measured by `First`.
        count_absent(self._unknown_names(place))


class First(_ManyLayers):
    """The first look into each directory."""

    def prepare(self, place: Place) -> None:
        self._paths = self._unknown_names(place)
        self._found = 0

    def run(self, place: Place) -> None:  # noqa: ARG002
        self._found = count_absent(self._paths)

    def check(self, place: Place) -> None:
        expect("names that are not there", self._found, place.corpora.scaled(_DIRECTORIES))


class Known(_ManyLayers):
    """stat of names that are there."""

    def run(self, place: Place) -> None:  # noqa: ARG002
        for path in self._paths:
            self._found += os.stat(path).st_size == 16

    def check(self, place: Place) -> None:
        expect("files found", self._found, place.corpora.scaled(_NAMES))


class Unknown(_ManyLayers):
    """stat of names that are in none of the layers."""

    def run(self, place: Place) -> None:  # noqa: ARG002
        self._found = count_absent([f"{path}-absent" for path in self._paths])

    def check(self, place: Place) -> None:
        expect("names that are not there", self._found, place.corpora.scaled(_NAMES))


WORKLOADS: tuple[Workload, ...] = (
    *(First("layers-first", "look into 10 directories", count) for count in LAYERS),
    *(Known("layers-known", "look up 2,000 names", count) for count in LAYERS),
    *(Unknown("layers-absent", "look up 2,000 names that are not there", count) for count in LAYERS),
)
