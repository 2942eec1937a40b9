"""The event loop of a mounted union: its session, its control socket, its signals.  `unionfs.mounter.server` comes before."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from unionfs.fuse import mounting
from unionfs.fuse.blocking import BlockingWorks
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.direct_session import DirectSession
from unionfs.fuse.session import Session, SessionError, SessionSettings
from unionfs.mounter import control_server
from unionfs.mounter.control_server import Handler
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.held import Held, Progress
from unionfs.mounter.live_layers import LiveLayers
from unionfs.mounter.live_snapshots import LiveSnapshots
from unionfs.mounter.process_figures import process_figures
from unionfs.mounter.registry import Record, Registration
from unionfs.mounter.restart import Restart
from unionfs.mounter.supervisor import Status
from unionfs.overlay import Union

_log = logging.getLogger("unionfs.mounter")


class Server:
    """Serves one mount to its end."""

    def __init__(
        self,
        union: Union,
        registration: Registration,
        record: Record,
        listener: socket.socket,
        stop_signals: Sequence[signal.Signals],
    ) -> None:
        """``listener``: see `unionfs.mounter.control.listen`.  ``stop_signals``: those that end the mount; blocked up to now."""
        self._stop_signals = stop_signals
        self._union = union
        self._registration = registration
        self._record = record
        self._listener = listener

    def serve_direct(self, connection: DirectConnection, held: Held, progress: Progress, *, is_settled: bool) -> Status:
        """Serve a mount that is ready, as one worker of several; how it ended.  ``is_settled``: whether what the kernel remembers
        is so."""
        session = DirectSession(connection, held.settings.spin_us, progress.make)
        restart = Restart(session, held)
        tasks = self._tasks(session, restart.handlers)
        if not is_settled:
            tasks.beside.append(tasks.layers.finish_change)
        trio.run(tasks.run, self._listener, lambda: None)
        return Status.RESTART if session.is_stopped else Status.UNMOUNTED

    def serve_pyfuse3(self, fd: int, settings: SessionSettings, ready: Callable[[], None]) -> signal.Signals | None:
        """The same for one that is not ready before it is served; ``ready`` is called then.

        Raises:
            DaemonError: the session could not start.
            SessionError: ``settings`` asks for what this transport cannot do.
        """
        # Loaded only where it is used: it brings libfuse along.
        from unionfs.fuse.pyfuse3_session import Pyfuse3Session

        return trio.run(self._tasks(Pyfuse3Session(fd, self._union, settings), {}).run, self._listener, ready)

    def _tasks(self, session: Session, handlers: Mapping[str, Handler]) -> _Tasks:
        layers = LiveLayers(self._union, session, self._registration, self._record)
        return _Tasks(session, self._union, layers, handlers, self._stop_signals)


class _Tasks:
    """The tasks of a mounted union."""

    def __init__(
        self,
        session: Session,
        union: Union,
        layers: LiveLayers,
        handlers: Mapping[str, Handler],
        stop_signals: Sequence[signal.Signals],
    ) -> None:
        """``handlers``: further operations of the control socket."""
        self.beside: list[Callable[[], Awaitable[None]]] = []
        """What else there is to do while the mount is served."""
        self._handlers = handlers
        self._stop_signals = stop_signals
        self._session = session
        self._union = union
        self.layers = layers
        self._mountpoint = layers.record.mountpoint
        self._error: SessionError | None = None
        self._stopped_by: signal.Signals | None = None

    async def run(self, listener: socket.socket, ready: Callable[[], None]) -> signal.Signals | None:
        changes = {**self.layers.handlers, **LiveSnapshots(self._union, self.layers).handlers}
        handlers = {"status": self._status, "explain": self._explain, **changes, **self._handlers}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_on_signal, nursery.cancel_scope)
            await nursery.start(self._run_session, nursery.cancel_scope)
            if self._error is None:
                ready()
                nursery.start_soon(control_server.serve, listener, handlers)
                for task in self.beside:
                    nursery.start_soon(task)
        _log.info("%s is no longer served here", self._mountpoint)
        if self._error is not None:
            raise DaemonError(self._mountpoint, str(self._error))
        return self._stopped_by

    async def _run_session(
        self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await self._session.run(task_status=task_status)
        except SessionError as error:
            # Kept, not raised: out of a nursery it would come inside an exception group.
            self._error = error
            task_status.started()
        everything.cancel()

    async def _stop_on_signal(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(*self._stop_signals) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._stop_signals)
            async for number in signals:
                if self._stopped_by is not None:
                    everything.cancel()
                    return
                self._stopped_by = signal.Signals(number)
                # In a thread: unmounting writes dirty pages back, and the requests for that are ours to answer.
                await trio.to_thread.run_sync(_unmount, Path(self._mountpoint), abandon_on_cancel=True)

    async def _status(self, _request: dict[str, Any]) -> object:
        return {
            **self.layers.record.shown(),
            "negotiated": self._session.negotiated,
            "requests": self._session.counters,
            "request_times": self._session.times,
            "process": process_figures(),
            "union": self._union.statistics(),
        }

    async def _explain(self, request: dict[str, Any]) -> object:
        return await BlockingWorks().call(self._union.explain, os.fsencode(str(request.get("path", ""))))


def _unmount(mountpoint: Path) -> None:
    try:
        mounting.unmount(mountpoint)
    except OSError:
        # In use: from now on nobody new comes in, and the session ends with the last user.
        mounting.unmount(mountpoint, lazy=True)
