"""Looking names up: walks, and names that are not there."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.bench.workload import Corpora, Place, Workload, expect
from unionfs.bench.workloads import small_tree

_ABSENT = 20_000


class Walk:
    """lstat of everything, cold (the union was just mounted) or warm (the second time)."""

    group = "lookup"
    requires: tuple[str, ...] = ()

    def __init__(self, *, warm: bool) -> None:
        self.name = "walk-warm" if warm else "walk-cold"
        self.title = f"walk 12,000 files, {'warm' if warm else 'cold'}"
        self._warm = warm
        self._found = 0

    def layers(self, corpora: Corpora) -> list[Path]:
        return small_tree.layers(corpora)

    def prepare(self, place: Place) -> None:
        self._found = 0
        if self._warm:
            small_tree.walk(place.merged)

    def run(self, place: Place) -> None:
        self._found = small_tree.walk(place.merged)

    def check(self, place: Place) -> None:
        expect("files found", self._found, len(small_tree.names(place.corpora)))


class Absent:
    """stat of names that are not there, each once, in directories of two layers."""

    name = "absent"
    title = "look up 20,000 names that are not there"
    group = "lookup"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return small_tree.layers(corpora)

    def prepare(self, place: Place) -> None:
        directories = small_tree.directory_names(place.corpora)
        count = place.corpora.scaled(_ABSENT)
        self._paths = [f"{place.merged}/{directories[number % len(directories)]}/absent-{number}" for number in range(count)]
        self._absent = 0

    def run(self, place: Place) -> None:  # noqa: ARG002
        self._absent = count_absent(self._paths)

    def check(self, place: Place) -> None:
        expect("names that are not there", self._absent, place.corpora.scaled(_ABSENT))


def count_absent(paths: list[str]) -> int:
    """stat all of ``paths``; how many there are not."""
    absent = 0
    for path in paths:
        try:
            os.stat(path)
        except FileNotFoundError:
            absent += 1
    return absent


WORKLOADS: tuple[Workload, ...] = (Walk(warm=False), Walk(warm=True), Absent())
