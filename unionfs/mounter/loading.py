"""Loading a part of the program while a mount is served already."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from unionfs.fuse.direct_connection import DirectConnection

T = TypeVar("T")

_TURN = 0.0001
"""Seconds after which a thread hands over the interpreter's lock, which a request needs again after each of its system calls.
With Python's 5 ms the first fifty requests take twice as long (47 ms instead of 25)."""


def load_while_serving(load: Callable[[], T], connection: DirectConnection) -> T:
    """What ``load`` returns, called in a thread while this one answers requests.

    Signals that this thread blocks are blocked in the other too.

    Raises:
        Exception: as ``load``.
    """
    with _short_turns(), _Loading(load) as loading:
        connection.serve_until(loading.done)
    return loading.result()


class _Loading(Generic[T]):
    """A thread that loads something, from the start of the block; it has ended at the end of the block."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._thread = threading.Thread(target=self._run, name="loading")
        self._loaded: list[T] = []
        self._error: BaseException | None = None

    def __enter__(self) -> _Loading[T]:
        self.done = os.eventfd(0, os.EFD_CLOEXEC)
        """Readable when the thread is done."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Waited for however serving ended: the thread would write to whatever has the number of a closed descriptor.
        self._thread.join()
        os.close(self.done)

    def result(self) -> T:
        """What was loaded; raises what went wrong."""
        if self._error is not None:
            raise self._error
        return self._loaded[0]

    def _run(self) -> None:
        try:
            self._loaded.append(self._load())
        except BaseException as error:
            self._error = error
        finally:
            os.eventfd_write(self.done, 1)


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Two threads take turns as often as `_TURN` says."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
