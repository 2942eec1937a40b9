"""Open files of a remote layer (see `unionfs.overlay.remote_layer`): who opened one and has read leaves it here for the next.

close(2) of such a file may take as long as any other request, so only threads that may wait close one.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable

_MOST = 32
"""How many stay open that nobody reads."""


class RemoteFiles:
    """The files of one layer that nobody is reading.  Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[Hashable, int] = OrderedDict()
        self._lent: tuple[Hashable, int] | None = None
        self._surplus: list[int] = []
        self._is_closed = False

    def take(self, key: Hashable) -> int:
        """A descriptor of the file ``key``, the caller's until `give`; -1: none is open."""
        with self._lock:
            return self._idle.pop(key, -1)

    def give(self, key: Hashable, fd: int) -> None:
        """The caller needs ``fd``, of the file ``key``, no more.  May wait."""
        with self._lock:
            self._put(key, fd)
            while len(self._idle) > _MOST:
                self._surplus.append(self._idle.popitem(last=False)[1])
            surplus, self._surplus = self._surplus, []
        _close(surplus)

    def lend(self, key: Hashable) -> int:
        """As `take`, but good until the next call of this, and not given back.  Never waits."""
        with self._lock:
            if self._lent is not None:
                self._put(*self._lent)
            fd = self._idle.pop(key, -1)
            self._lent = None if fd < 0 else (key, fd)
            return fd

    def _put(self, key: Hashable, fd: int) -> None:
        if self._is_closed or key in self._idle:
            self._surplus.append(fd)
        else:
            self._idle[key] = fd

    def close(self) -> None:
        """Close them, and what is given back later.  Never waits: the files are closed in a thread that nobody waits for."""
        with self._lock:
            self._is_closed = True
            fds = [*self._surplus, *self._idle.values(), *([self._lent[1]] if self._lent is not None else ())]
            self._idle.clear()
            self._lent, self._surplus = None, []
        if fds:
            threading.Thread(target=_close, args=(fds,), name="close remote files", daemon=True).start()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
