"""How slow work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Whoever shows it."""

    def begin(self, what: str, total: int | None) -> Callable[[int], None]:
        """A piece of work begins: ``total`` bytes, None where that is not known.  What is returned is called with the number of
        bytes done
        since the last call."""


class NoProgress:
    """Shows nothing."""

    def begin(self, what: str, total: int | None) -> Callable[[int], None]:  # noqa: ARG002
        """As `Progress`."""
        return lambda _count: None
