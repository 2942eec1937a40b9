"""Running a piece of work in a process of its own, so that nothing can hang the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from unionfs.bench.daemon import process_ends
from unionfs.bench.errors import BenchError, TimeLimitError

_KILL_GRACE = 2.0
"""Seconds for a killed process to be gone.  One that waits for a FUSE server is not: a request that the server has read can
only be waited for (``request_wait_answer`` in fs/fuse/dev.c)."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_isolated(work: Callable[[], dict[str, Any]], limit: float, abort: Callable[[], None]) -> dict[str, Any]:
    """Run ``work`` in a forked process and return what it returned, which must be JSON.

    The process and all that it started in its session are gone when this returns or raises.  ``abort`` takes away what they
    may be waiting for: the mount.

    Raises:
        TimeLimitError: It did not end within ``limit`` seconds.
        BenchError: It raised something, told in one line; or it was killed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(work, writer)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + limit)
        if answer is None:
            raise TimeLimitError(f"no end after {limit:g} s")
    finally:
        os.close(reader)
        _end(pid, abort)
    if not answer:
        raise BenchError("the process that did the work was killed")
    result: dict[str, Any] = json.loads(answer)
    if "failure" in result:
        raise BenchError(result["failure"])
    return result


def _child(work: Callable[[], dict[str, Any]], writer: int) -> NoReturn:
    # Never back into what the parent is doing, whatever happens: its clean-up is not ours.
    try:
        os.setsid()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            result = work()
        except Exception as error:
            result = {"failure": explained(error)}
        os.write(writer, json.dumps(result).encode())
    finally:
        os._exit(0)


def explained(error: Exception) -> str:
    """``error`` in one line."""
    if isinstance(error, OSError) and error.strerror:
        name = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        return f"{error.strerror}{name}"
    if isinstance(error, BenchError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _read_all(reader: int, deadline: float) -> bytes | None:
    """All that comes until the other side is closed; None if that is not before ``deadline``."""
    answer = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(reader, 1 << 16)
        if not part:
            return answer
        answer += part


def _end(pid: int, abort: Callable[[], None]) -> None:
    # Programs that the work started and forgot go as well.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not process_ends(pid, _KILL_GRACE):
        abort()
    os.waitpid(pid, 0)
