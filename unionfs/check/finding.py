"""What a rule reports."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Severity(enum.Enum):
    """How bad a finding is."""

    PROBLEM = "problem"
    """Something shows otherwise than it should, cannot be used, forbids a mount, or was left behind by a crash."""
    NOTE = "note"
    """Nothing is wrong for unionfs, but it may be of interest."""


class Repair(NamedTuple):
    """How a finding is put right without a guess: ``run`` never changes what the union shows of sound objects.

    ``what`` completes the sentence "repair: …"; ``run`` raises OSError.
    """

    what: str
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: name of the kind, as docs/commands.md lists it (``stray-work-file``).
        path: host path of the object.
        problem: what is the matter with it, in one line.
        remedy: what to do about it by hand; None where ``repair`` does all there is to do.
        repair: how ``--repair`` puts it right; None where that would be a guess.
    """

    kind: str
    path: Path
    problem: str
    remedy: str | None = None
    repair: Repair | None = None
    severity: Severity = Severity.PROBLEM
