"""What a workload is: work that is done in a mounted union and timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unionfs.bench.corpora import Corpora
from unionfs.bench.errors import WrongResultError

__all__ = ["Corpora", "Place", "Workload", "WrongResultError", "expect"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one measurement takes place.

    ``merged`` is the mounted union (or the plain directory); ``scratch`` a private empty directory outside of the union, on the
    same filesystem as the layers, removed afterwards; ``corpora`` makes and keeps input data that all measurements share.
    """

    merged: Path
    scratch: Path
    corpora: Corpora


class Workload(Protocol):
    """One row of the table.

    A measurement is: `layers`, a fresh mount, then `prepare`, `run` and `check` in a process of its own, so what
    ``prepare`` keeps in ``self`` is there in ``run`` and ``check``, and nothing of another measurement is.  Whatever one of the
    three raises makes the measurement a failed one.
    """

    name: str
    """What it is called in JSON and for ``--only``."""
    title: str
    """What the table says, with the sizes at scale 1: "create 5,000 files of 4 KiB"."""
    group: str
    """Which rows belong together: "metadata", "data", "copy-up", "programs", "layers", …"""
    requires: tuple[str, ...]
    """Programs that must be on PATH; the row is not measured where one is missing."""

    def layers(self, corpora: Corpora) -> list[Path]:
        """The lower layers, the top one first; at least one.  Not timed, and outside of any mount."""

    def prepare(self, place: Place) -> None:
        """What comes before the work, in the union: filling caches, making what the work is to remove.  Not timed."""

    def run(self, place: Place) -> None:
        """The work.  Timed, by the wall clock."""

    def check(self, place: Place) -> None:
        """Whether the work was really done.  Not timed.

        Raises:
            WrongResultError: It was not.
        """


def expect(what: str, found: object, wanted: object) -> None:
    """Raise `WrongResultError` unless both are equal; ``what`` names them."""
    if found != wanted:
        raise WrongResultError(f"{what}: {found!r} instead of {wanted!r}")
