"""Requests that wait for a work with a lane, which may never end (see `unionfs.filesystem.Blocking`), and when they stop waiting.

The kernel says that a caller got a signal (INTERRUPT), but not which, and says it once.  A program that merely handles a signal
must not see its system call fail, as on any disk; one that is being killed is gone only when its request is answered.  So from
the first signal on whoever asked is looked at from time to time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable
from typing import Any

import trio

from unionfs.fuse import wire
from unionfs.fuse.wire import RequestHeader
from unionfs.linux.signals import is_being_killed

_UNIQUE, _PID = 2, 6  # where they stand in a RequestHeader

_LOOK_AGAIN = 0.25
"""Seconds."""


class _Wait:
    """One request that waits."""

    __slots__ = ("interrupted", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.interrupted = trio.Event()


class LaneWaits:
    """Those of one session.  All methods belong to the trio thread."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}

    async def finish(self, header: RequestHeader, work: Awaitable[Any]) -> Any:
        """Wait for ``work`` on behalf of the request with ``header``; what it returns.

        Raises:
            OSError: EINTR: nobody wants the answer any more.  Others are those of ``work``.
        """
        wait = self._waits[header[_UNIQUE]] = _Wait()
        result: Any = None
        error: Exception | None = OSError(errno.EINTR, os.strerror(errno.EINTR))
        try:
            with wait.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._leave_when_killed, wait, header[_PID])
                    try:
                        result, error = await work, None
                    except Exception as failed:
                        error = failed  # raised here, it would come out inside an exception group
                    nursery.cancel_scope.cancel()
        finally:
            del self._waits[header[_UNIQUE]]
        if error is not None:
            raise error
        return result

    async def _leave_when_killed(self, wait: _Wait, pid: int) -> None:
        await wait.interrupted.wait()
        while not is_being_killed(pid):
            await trio.sleep(_LOOK_AGAIN)
        wait.scope.cancel()

    def interrupt(self, body: memoryview, _header: RequestHeader) -> None:
        """An INTERRUPT came: the caller of some request, which may have been answered by now, got a signal."""
        wait = self._waits.get(wire.INTERRUPT_IN.decode(body)[0])
        if wait is not None:
            wait.interrupted.set()

    def leave(self) -> None:
        """The connection has ended, and with it all of them."""
        for wait in self._waits.values():
            wait.scope.cancel()
