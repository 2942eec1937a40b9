"""Stacks that are damaged on purpose, and what the check says of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.behaviour.layers import Tree, build
from unionfs.check import Directories, Outcome, check

PREFIX = "trusted.overlay."


@dataclass
class DamagedStack:
    """An upper and a work directory under ``top`` and any number of lowers, top first."""

    top: Path
    lowers: tuple[Path, ...] = ()
    userxattr: bool = False
    data: tuple[Path, ...] = ()

    @property
    def upper(self) -> Path:
        return self.top / "upper"

    @property
    def work(self) -> Path:
        return self.top / "work"

    def check(self, repair: bool = False) -> list[Outcome]:
        """All outcomes."""
        return check(Directories(self.upper, self.work, self.lowers, self.userxattr, self.data), repair)

    def found(self) -> list[tuple[str, str]]:
        """(kind, path from ``top``) of all findings."""
        return [(outcome.finding.kind, str(outcome.finding.path.relative_to(self.top))) for outcome in self.check()]

    def repaired(self) -> list[tuple[str, str]]:
        """Repair everything, which shall succeed and leave nothing that could be repaired; what was found before."""
        outcomes = self.check(repair=True)
        assert [outcome for outcome in outcomes if outcome.finding.repair and not outcome.repaired] == []
        assert [outcome for outcome in self.check() if outcome.finding.repair] == []
        return [(outcome.finding.kind, str(outcome.finding.path.relative_to(self.top))) for outcome in outcomes]


def damaged(
    top: Path, upper: Tree, *lowers: Tree, work: Tree | None = None, userxattr: bool = False, data: Tree | None = None
) -> DamagedStack:
    """Make the layers as described; ``work`` is what the work directory holds, ``data`` what a data-only layer does."""
    paths = tuple(top / f"lower{number}" for number in range(len(lowers)))
    stack = DamagedStack(top, paths, userxattr, () if data is None else (top / "data",))
    if data is not None:
        build(top / "data", data)
    for path, tree in zip((stack.upper, stack.work, *paths), (upper, work or {}, *lowers), strict=True):
        build(path, tree)
    return stack


def mark(path: Path, prefix: str = PREFIX) -> dict[str, bytes]:
    """The union's own attributes of an object."""
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(prefix)]
    return {name.removeprefix(prefix): os.getxattr(path, name, follow_symlinks=False) for name in names}
