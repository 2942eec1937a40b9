"""Running the slow work that a filesystem asks for by raising `Blocking`, in threads, each piece once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from unionfs.filesystem import Blocking


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

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

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
            running = await self._run(blocking.work)
        else:
            await running.done.wait()
        error = running.error
        if error is not None and not (blocking.restart and isinstance(error, OSError)):
            raise error
        return running.result

    async def _run(self, work: Callable[[], Any]) -> _Running:
        running = self._running[id(work)] = _Running(work)
        try:
            # Not abandoned on cancellation: the work may be half-way through a copy-up, and the layers outlive the session.
            running.result = await trio.to_thread.run_sync(work)
        except Exception as error:
            running.error = error
        finally:
            del self._running[id(work)]
            running.done.set()
        return running
