"""What all kinds of work have in common.

A client has two of each kind, one in the union and one in a plain directory, and lets both do the same: what comes of it must be
the same.  So a work must be a function of the operations that it is given, and an outcome has nothing in it that two directories
cannot share: no inode numbers, no times of the present, no orders of listings.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from tests.differential.player import Operation

T = TypeVar("T")

LONG_AGO_NS = 1_100_000_000 * 10**9
"""Times before this were set by an operation, or come from the layers; later ones are of now, a moment apart in two
directories."""
PRESENT = -1
"""Stands for all times of now."""


class Work(Protocol):
    """One kind of work in one directory."""

    def draw(self, dice: random.Random) -> list[Operation]:
        """What to do next, in this order; nothing is changed, and nothing but ``dice`` and earlier operations decides."""

    def end(self) -> None:
        """Close all that is open, and end all that runs."""


class Status(NamedTuple):
    """What two directories share of the attributes of an object.  Of directories neither size nor link count."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    nlink: int = 0
    size: int = 0
    rdev: int = 0


def shared(status: os.stat_result) -> Status:
    """Take it out of what stat(2) tells."""
    mtime = status.st_mtime_ns if status.st_mtime_ns < LONG_AGO_NS else PRESENT
    of_all = Status(status.st_mode, status.st_uid, status.st_gid, mtime)
    if stat.S_ISDIR(status.st_mode):
        return of_all
    return of_all._replace(nlink=status.st_nlink, size=status.st_size, rdev=status.st_rdev)


def weighted(dice: random.Random, choices: Sequence[tuple[int, T]]) -> T:
    """One of ``choices``, each a weight and what it is of."""
    return dice.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]
