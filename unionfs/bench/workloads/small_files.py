"""Reading small files."""

from __future__ import annotations

from pathlib import Path

from unionfs.bench.workload import Corpora, Place, Workload, expect
from unionfs.bench.workloads import small_tree

_READ = 10_000
_OPENED = 1_000
_OPENS = 20_000


class Read:
    """Open, read and close each of many files, cold (the union was just mounted) or warm (the second time)."""

    group = "data"
    requires: tuple[str, ...] = ()

    def __init__(self, *, warm: bool) -> None:
        self.name = "read-warm" if warm else "read-cold"
        self.title = f"read 10,000 files of 1.5 kB, {'warm' if warm else 'cold'}"
        self._warm = warm

    def layers(self, corpora: Corpora) -> list[Path]:
        return small_tree.layers(corpora)

    def prepare(self, place: Place) -> None:
        names = small_tree.names(place.corpora)[: place.corpora.scaled(_READ)]
        self._size = sum(map(small_tree.size_of, names))
        self._paths = [f"{place.merged}/{name}" for name in names]
        self._read = 0
        if self._warm:
            for path in self._paths:
                small_tree.read_file(path)

    def run(self, place: Place) -> None:  # noqa: ARG002
        self._read = sum(map(small_tree.read_file, self._paths))

    def check(self, place: Place) -> None:  # noqa: ARG002
        expect("bytes read", self._read, self._size)


class Opens:
    """Open, read and close the same files again and again."""

    name = "opens-warm"
    title = "open and read a small file 20,000 times, warm"
    group = "data"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        return small_tree.layers(corpora)

    def prepare(self, place: Place) -> None:
        names = small_tree.names(place.corpora)[: place.corpora.scaled(_OPENED)]
        self._turns = place.corpora.scaled(_OPENS) // len(names)
        self._size = self._turns * sum(map(small_tree.size_of, names))
        self._paths = [f"{place.merged}/{name}" for name in names]
        self._read = 0
        for path in self._paths:
            small_tree.read_file(path)

    def run(self, place: Place) -> None:  # noqa: ARG002
        for _ in range(self._turns):
            self._read += sum(map(small_tree.read_file, self._paths))

    def check(self, place: Place) -> None:  # noqa: ARG002
        expect("bytes read", self._read, self._size)


WORKLOADS: tuple[Workload, ...] = (Read(warm=False), Read(warm=True), Opens())
