"""What a probe of ``unionfs doctor`` is, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Finding(NamedTuple):
    """The outcome of a probe: what was found in one line and, unless ``ok``, what to do about it."""

    ok: bool
    detail: str
    remedy: str | None = None


class Probe(NamedTuple):
    """One thing a mount needs or profits from.  ``run`` changes nothing that stays, and raises nothing."""

    name: str
    run: Callable[[], Finding]
