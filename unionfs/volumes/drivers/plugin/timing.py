"""How long a plugin is waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What time is told by; tests have one that never waits."""

    def now(self) -> float:
        """Seconds since any moment; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The clock of the system."""

    def now(self) -> float:
        """As `Clock.now`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """As `Clock.sleep`."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Timing:
    """Limits, in seconds; the defaults are docker's (moby, pkg/plugins/client.go and daemon/volume/drivers/proxy.go).

    ``connecting``: for one attempt to connect.  ``answering``: for the whole answer, from sending on; ``answering_long``: for
    that of Create and Mount, behind which there may be a device to be made or found.  ``trying``: for all attempts of one call:
    none begins later.
    """

    connecting: float = 10.0
    answering: float = 60.0
    answering_long: float = 120.0
    trying: float = 30.0

    def pause(self, failures: int, elapsed: float) -> float | None:
        """The seconds to wait before the next attempt: 1, 2, 4, 8… after so many ``failures``; None: there has been enough of it,
        ``elapsed`` seconds since the first one began."""
        seconds = float(2 ** (failures - 1))
        return seconds if elapsed + seconds < self.trying else None


PATIENT = Timing()
"""For what somebody wants to have done."""

PROBING = Timing(connecting=2.0, answering=5.0, answering_long=5.0, trying=0.0)
"""For looking around among all plugins, of which one that hangs must not stop a command for long."""
