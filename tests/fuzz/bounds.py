"""The bounds of one example.  What goes beyond them is a failure of the test that hypothesis can make small."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

MEMORY = 256 << 20
"""Bytes that an example may allocate beyond what the process has: small input has no business taking more."""

SECONDS = 20.0
"""Of processor time, so that a busy machine is no failure."""


T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class _EndlessError(BaseException):
    """Not an Exception: what is being tested must not be able to catch it."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise _EndlessError


@contextlib.contextmanager
def bounded(memory: int = MEMORY, seconds: float = SECONDS) -> Iterator[None]:
    """Memory beyond ``memory`` bytes is a MemoryError, more than ``seconds`` of processor time an AssertionError.

    In the main thread only, where Python runs handlers of signals.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGVTALRM, _interrupt)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except _EndlessError:
        raise AssertionError(f"still at it after {seconds:g} s of processor time") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def outcome(call: Callable[[], T], declared: type[E]) -> T | E:
    """What ``call`` returns within the bounds, or the error of the declared type that it raises; any other error goes on."""
    try:
        with bounded():
            return call()
    except declared as error:
        return error


def is_one_line(error: Exception) -> bool:
    """Whether a command can print it."""
    return len(str(error).splitlines()) == 1
