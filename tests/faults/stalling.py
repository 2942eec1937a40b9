"""A union over a local lower layer and one that is a FUSE mount, whose daemon can be stopped: then it answers nobody."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.faults.mounted import DEADLINE, POLL
from tests.mounts import Backend, run_unionfs
from tests.overlay.client import build

T = TypeVar("T")

LOCAL = {"local/f": b"local", "local/deep/g": b"deep", "both/local": b"l", "local/large": b"L" * 300_000}
SLOW = {
    "slow/f": b"slow",
    "slow/written": b"before",
    "slow/large": b"s" * 300_000,
    "slow/deep/er/g": b"deep",
    "both/slow": b"s",
    **{f"slow/many/{number}": b"%d" % number for number in range(60)},
}


class StallingUnion:
    """The union on ``merged``; `stall` and `go_on` are about the lower of `SLOW`."""

    def __init__(self, top: Path, backend: Backend, *, writable: bool = True) -> None:
        self.backend = backend
        self.local, self._behind = build(top / "local", LOCAL), build(top / "behind", SLOW)
        os.symlink("target", self._behind / "slow/link")
        os.setxattr(self._behind / "slow/f", "user.name", b"value")
        self.slow = build(top / "slow", {})
        self.merged = build(top / "merged", {})
        self.upper, self.work = (build(top / "upper", {}), build(top / "work", {})) if writable else (None, None)
        self._is_stalled = False

    def start(self) -> None:
        """Mount the lower, then the union."""
        # Nothing is to be answered from the kernel's memory, nor without the daemon.
        run_unionfs(["mount", "--data-path", "cached", "-l", self._behind, "-o", "timeout=0", self.slow])
        self._daemon = int(status(self.slow)["worker"]["pid"])
        self.backend.mount([self.local, self.slow], self.upper, self.work, self.merged, ("redirect_dir=on", "index=on"))
        self.pid = int(status(self.merged)["worker"]["pid"])

    def stop(self) -> None:
        """Unmount both."""
        self.go_on()
        for mountpoint in (self.merged, self.slow):
            run_unionfs(["umount", mountpoint])

    def stall(self) -> None:
        """On return the slow lower answers nobody."""
        self._is_stalled = True
        os.kill(self._daemon, signal.SIGSTOP)
        until(lambda: state_of(self._daemon) == "T")

    def go_on(self) -> None:
        """Whatever waits for the slow lower is answered."""
        if self._is_stalled:
            os.kill(self._daemon, signal.SIGCONT)
            self._is_stalled = False

    def waiting(self) -> int:
        """How many requests had to wait so far."""
        return int(status(self.merged)["requests"]["blocking"])


class Waiting(Generic[T]):
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._result: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    @property
    def is_over(self) -> bool:
        """Whether it has returned."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """What it returns."""
        self._thread.join(DEADLINE)
        assert self.is_over, "it is not answered"
        if self._error is not None:
            raise self._error
        return self._result


def status(mountpoint: Path) -> dict[str, Any]:
    """What the daemon of a mount tells of itself."""
    told: dict[str, Any] = json.loads(run_unionfs(["status", "--json", mountpoint]))
    return told


def state_of(pid: int) -> str:
    """proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process brings about."""
    deadline = threading.Event()
    timer = threading.Timer(DEADLINE, deadline.set)
    timer.start()
    try:
        while not condition():
            assert not deadline.is_set(), "what was waited for did not happen"
            deadline.wait(POLL)
    finally:
        timer.cancel()
