"""Which workloads and systems a user has asked for."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from unionfs.bench.errors import BenchError
from unionfs.bench.runner import FIGURES
from unionfs.bench.systems import SYSTEMS, System
from unionfs.bench.workload import Workload
from unionfs.bench.workloads import ALL


class UnknownNameError(BenchError):
    """There is no workload, or no system, of that name."""


def select_workloads(patterns: Sequence[str] | None) -> tuple[list[Workload], list[str]]:
    """The workloads that match one of ``patterns`` (as file names do), in the order of the table, and the names of the `FIGURES`
    that do.  None: all.

    Raises:
        UnknownNameError: A pattern matches nothing.
    """
    names = _matching(patterns, [*(workload.name for workload in ALL), *FIGURES], "workload")
    return [workload for workload in ALL if workload.name in names], [name for name in FIGURES if name in names]


def select_systems(patterns: Sequence[str] | None) -> list[System]:
    """The systems that match one of ``patterns``, in the order of the table.  None: all.

    Raises:
        UnknownNameError: A pattern matches nothing.
    """
    names = _matching(patterns, [system.name for system in SYSTEMS], "system")
    return [system for system in SYSTEMS if system.name in names]


def _matching(patterns: Sequence[str] | None, names: Sequence[str], kind: str) -> set[str]:
    found: set[str] = set()
    for pattern in ["*"] if patterns is None else patterns:
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            raise UnknownNameError(f"no {kind} is called {pattern!r}; unionfs bench --list names all of them")
        found |= matches
    return found
