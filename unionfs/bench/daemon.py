"""The processes that serve a mount: which they are, what they use."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unionfs.bench.errors import BenchError

MARK = "UNIONFS_BENCH_MOUNT"
"""The environment variable that names the directory of the mount that a process serves.  Daemons fork, some run themselves anew,
and each tells its process id in another way or not at all; the environment they all inherit."""

_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """In bytes.  ``pss`` counts what is shared with other processes in part."""

    rss: int
    pss: int


class Daemon:
    """All processes that serve a mount in ``directory``, or in one below it, at this moment.  Those of the kernel have none."""

    def __init__(self, directory: Path) -> None:
        self._wanted = os.fsencode(f"{MARK}={directory}")
        self.pids = tuple(self._find())

    def _find(self) -> Iterator[int]:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                # It may end at any moment, or belong to somebody else.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    variables = Path(entry.path, "environ").read_bytes().split(b"\0")
                    if any(variable == self._wanted or variable.startswith(self._wanted + b"/") for variable in variables):
                        yield int(entry.name)

    def cpu_seconds(self) -> float:
        """CPU time so far: user and system, of all threads.

        Raises:
            BenchError: One of the processes has ended.
        """
        return sum(self._ticks(pid) for pid in self.pids) / _TICKS

    @staticmethod
    def _ticks(pid: int) -> int:
        # proc_pid_stat(5): utime and stime are fields 14 and 15.  The second, a name, may hold anything: count from the last ")".
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])

    def memory(self) -> Memory:
        """What the processes use at this moment.

        Raises:
            BenchError: One of them has ended.
        """
        total = {b"Rss:": 0, b"Pss:": 0}
        for pid in self.pids:
            for line in _read(pid, "smaps_rollup").splitlines():
                key, *value = line.split()
                if key in total:
                    total[key] += int(value[0]) * 1024
        return Memory(total[b"Rss:"], total[b"Pss:"])

    def kill(self) -> None:
        """End them at once: with the last one the connection to the kernel is gone, and nobody waits for an answer any more."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_for_end(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for all of them to end; whether they have."""
        deadline = time.monotonic() + timeout
        return all(process_ends(pid, deadline - time.monotonic()) for pid in self.pids)


def process_ends(pid: int, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for process ``pid`` to end; whether it has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout) * 1000))
    finally:
        os.close(pidfd)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise BenchError(f"the daemon (process {pid}) has ended") from None
