"""Running the slow work that a filesystem asks for by raising `Blocking`, in threads, each piece once.

What waits for a disk of our own ends some day, so all of that shares trio's threads.  A work with a lane may not, so each lane
has a few threads of its own, and whoever waits for such a work may leave.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import trio

from unionfs.filesystem import Blocking

T = TypeVar("T")

_THREADS_OF_LANE = 8
"""How many works of a lane run at a time; the others wait without a thread."""


class _Running:
    """A work in its thread, and later how it ended.  Holding ``work`` keeps its id from being used again meanwhile."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done = trio.Event()
        self.result: Any = None
        self.error: Exception | None = None


class BlockingWorks:
    """The works now running.  All methods belong to the trio thread."""

    __slots__ = ("_lanes", "_running")

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._lanes: weakref.WeakKeyDictionary[object, trio.CapacityLimiter] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._running)

    async def call(self, method: Callable[..., T], *arguments: Any) -> T:
        """Call a method of the filesystem, as often as it asks for; what it returns in the end.

        Raises:
            OSError: that of the method.
        """
        while True:
            try:
                return method(*arguments)
            except Blocking as blocking:
                result = await self.finish(blocking)
                if not blocking.restart:
                    return cast("T", result)

    async def finish(self, blocking: Blocking) -> Any:
        """Wait until the work of ``blocking`` is over: start it, or join it if it runs already.  Returns its result, which
        means something only with ``restart=False``.

        Raises:
            OSError: of the work, only with ``restart=False``; otherwise the filesystem knows, and the restarted method tells.
            Exception: anything else that the work raised: a bug.
        """
        # Its frames hold the buffers of the call that was given up.
        blocking.__traceback__ = None
        running = self._running.get(id(blocking.work))
        if running is None:
            running = self._running[id(blocking.work)] = _Running(blocking.work)
            if blocking.lane is None:
                await self._run(running)
            else:
                trio.lowlevel.spawn_system_task(self._run_in_lane, running, self._limiter(blocking.lane))
        await running.done.wait()
        error = running.error
        if error is not None and not (blocking.restart and isinstance(error, OSError)):
            raise error
        return running.result

    async def _run(self, running: _Running) -> None:
        with self._ending(running):
            # Not abandoned on cancellation: the work may be half-way through a copy-up, and the layers outlive the session.
            running.result = await trio.to_thread.run_sync(running.work)

    async def _run_in_lane(self, running: _Running, limiter: trio.CapacityLimiter) -> None:
        with self._ending(running):
            # Abandoned with the session: what it waits for may never come, and the mount has gone.
            running.result = await trio.to_thread.run_sync(running.work, abandon_on_cancel=True, limiter=limiter)

    @contextlib.contextmanager
    def _ending(self, running: _Running) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            running.error = error
        finally:
            del self._running[id(running.work)]
            running.done.set()

    def _limiter(self, lane: object) -> trio.CapacityLimiter:
        limiter = self._lanes.get(lane)
        if limiter is None:
            limiter = self._lanes[lane] = trio.CapacityLimiter(_THREADS_OF_LANE)
        return limiter
