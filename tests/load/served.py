"""Who serves a mount: asked of its control socket, without a look at any path under the mount."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.programs import wait_until
from unionfs.mounter.control import ask
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.lookup import living_mount

_LIMIT = 60.0
"""Seconds until the next worker must be there."""


class NoSupervisorError(Exception):
    """The mount is served by one process alone, so that nothing of it can be killed and come back."""


class Served:
    """The processes that serve the mount on ``merged``."""

    def __init__(self, merged: Path) -> None:
        self._merged = merged
        self._directory = living_mount(merged).directory

    def status(self) -> dict[str, Any]:
        """What ``unionfs status --json`` tells.

        Raises:
            OSError: what the daemon answered instead.
            unionfs.mounter.errors.DaemonError: it cannot be asked.
        """
        answer: dict[str, Any] = ask(self._directory, "status")
        return answer

    def worker(self) -> int | None:
        """The process that answers requests; None while there is none.

        Raises:
            NoSupervisorError: the daemon does it itself.
        """
        try:
            status = self.status()
        except DaemonError:
            return None  # who was asked has died over it
        if "worker" not in status:
            raise NoSupervisorError(f"{self._merged}: served without a supervisor; its status tells of no worker")
        pid = status["worker"]["pid"]
        assert pid is None or isinstance(pid, int)
        return pid or None

    def processes(self) -> list[int]:
        """All that serve the mount: the supervisor and its worker, or the daemon alone.  Raises as `status`."""
        status = self.status()
        return [pid for pid in (status["pid"], status.get("worker", {}).get("pid")) if pid]

    def kill_worker(self) -> int:
        """Send SIGKILL to the worker; which process that was.

        Raises:
            NoSupervisorError: as `worker`.
        """
        wait_until(lambda: self.worker() is not None, "a worker", _LIMIT)
        while True:
            worker = self.worker()
            if worker is not None and self._kill(worker):
                return worker

    def next_worker(self, old: int) -> int:
        """Return when another process than ``old`` is the worker, and say which."""
        found: list[int] = []

        def is_another() -> bool:
            worker = self.worker()
            found[:] = [worker] if worker not in (None, old) else []
            return bool(found)

        wait_until(is_another, f"the worker after process {old}", _LIMIT)
        return found[0]

    def _kill(self, worker: int) -> bool:
        """Whether it was there to be killed: the number may be another process's by now, but not once that is looked at by a
        descriptor and is still what it was."""
        try:
            process = os.pidfd_open(worker)
        except ProcessLookupError:
            return False
        try:
            if self.worker() != worker:
                return False
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(process)
        return True
