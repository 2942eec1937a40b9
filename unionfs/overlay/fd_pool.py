"""How many files and directories of the layers are open at a time.

A union of many directories has far more of them than a process may have descriptors, so each real directory and file
keeps its descriptor only while it is in use or there is room.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from typing import Protocol

_HIGHEST_LIMIT = 8192
_FEWEST = 16
"""So many no operation can do without."""


class Holder(Protocol):
    """What owns one descriptor of the pool."""

    fd: int
    """-1 while closed."""
    recent: bool
    """Set by whoever uses the descriptor: it then survives one more round of the clock."""


class FdPool:
    """Closes the descriptors that were not used lately (second chance, "clock").

    Nothing is closed but in `trim`, which is called *between* operations only: so a descriptor taken from a holder stays good
    until the end of the operation, however many others it opens.
    """

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: how many may be open; default: half of RLIMIT_NOFILE, the rest is for data that is being copied."""
        self._given = limit
        self.limit = self._wanted()
        self._has_given_way = False
        self._clock: deque[Holder] = deque()

    def add(self, holder: Holder) -> None:
        """``holder`` has just opened its descriptor."""
        holder.recent = True
        self._clock.append(holder)

    @property
    def is_full(self) -> bool:
        """Whether it is time for `trim`."""
        return len(self._clock) > self.limit

    def _wanted(self) -> int:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return self._given or min(max(soft // 2, 64), _HIGHEST_LIMIT)

    def give_way(self) -> bool:
        """The process has no descriptor left (somebody may have lowered its limit, or others than these hold them): close half of
        these, and from now on do with fewer.  False: there are too few for that to help.  Call it between operations only."""
        count = len(self)
        if count < _FEWEST:
            return False
        self.limit = count // 2
        self._close_down_to(self.limit)
        self._has_given_way = True
        return True

    def trim(self) -> None:
        """Close what was not used lately until a quarter of the places is free."""
        if self._has_given_way:
            # Little by little, for nothing tells whether there are more again.
            wanted = self._wanted()
            self.limit = min(self.limit * 2, wanted)
            self._has_given_way = self.limit < wanted
        self._close_down_to(self.limit * 3 // 4)

    def _close_down_to(self, most: int) -> None:
        clock = self._clock
        while len(clock) > most:
            holder = clock.popleft()
            if holder.fd < 0:
                continue
            if holder.recent:
                holder.recent = False
                clock.append(holder)
            else:
                close(holder)

    def __len__(self) -> int:
        return sum(1 for holder in self._clock if holder.fd >= 0)

    def close(self) -> None:
        """Close all of them."""
        while self._clock:
            close(self._clock.popleft())


def close(holder: Holder) -> None:
    """Close the descriptor of ``holder`` now, if it has one.  Its place in the pool's clock goes at the next round."""
    fd, holder.fd = holder.fd, -1
    if fd >= 0:
        os.close(fd)
