"""How far the clients of a load are: who waits for that waits for so many operations, not for a time."""

from __future__ import annotations

import os
import threading
import time

STALLED = 120.0
"""Seconds without an operation of any client, after which a wait fails: longer than any command stops a union."""


class StalledError(Exception):
    """No client got anything done for `STALLED` seconds."""


class Progress:
    """Counts the operations of all clients, which write a byte for each to the descriptor `write_end`."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._count = 0
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="progress")
        self._reader.start()

    @property
    def count(self) -> int:
        """How many there were so far."""
        return self._count

    @property
    def has_ended(self) -> bool:
        """Whether nobody shall wait any more."""
        return self._ended

    def wait_for(self, operations: int) -> bool:
        """Return when there were so many more operations; False if the load has ended before.

        Raises:
            StalledError: nothing happens any more.
        """
        with self._changed:
            goal, before, since = self._count + operations, self._count, time.monotonic()
            while self._count < goal and not self._ended:
                self._changed.wait(STALLED)
                if self._count != before:
                    before, since = self._count, time.monotonic()
                elif time.monotonic() - since >= STALLED and not self._ended:
                    raise StalledError(f"no client got anything done for {STALLED:.0f} s")
            return not self._ended

    def pause(self, seconds: float) -> bool:
        """Return after so many seconds, or earlier, with False, at the end of the load."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, seconds)
            return not self._ended

    def end(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop counting.  The clients must have ended: what they write would be lost."""
        os.close(self.write_end)
        self._reader.join()
        os.close(self._read_end)

    def _read(self) -> None:
        while data := os.read(self._read_end, 1 << 16):
            with self._changed:
                self._count += len(data)
                self._changed.notify_all()
