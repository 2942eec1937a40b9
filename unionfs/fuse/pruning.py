"""Asking the kernel to forget nodes that nobody uses (NOTIFY_PRUNE, since Linux 6.18)."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from unionfs.filesystem import Forgettable
from unionfs.fuse import wire

_log = logging.getLogger("unionfs.fuse")

_MOST_WAITING = 8


class _Message(NamedTuple):
    fd: int
    nodes: list[int]


class Pruning:
    """Sends what is to be forgotten on one connection, one message at a time and from a thread of its own.

    Because the kernel lets go of an inode only when its dirty pages are written (``iput``), by requests that are ours to answer.
    """

    def __init__(self, fd: int, is_possible: bool = True, kernel_id: Callable[[int], int | None] = lambda node: node) -> None:
        """
        Args:
            fd: the connection.
            is_possible: whether the kernel knows the message; if that cannot be told, it shows with the first one.
            kernel_id: what the kernel calls a node of the filesystem; None: it does not know it.
        """
        self._fd = fd
        self._is_possible = is_possible
        self._kernel_id = kernel_id
        self._waiting: deque[list[int]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._sender: threading.Thread | None = None
        self.asked = 0
        """How many nodes the kernel was asked to forget so far."""

    def ask(self, request: Forgettable) -> None:
        """Send it soon.  If the kernel is too slow for all that is asked, it is not sent: the filesystem asks again."""
        known = [kernel_id for node in request.nodes if (kernel_id := self._kernel_id(node)) is not None]
        if not self._is_possible or not known:
            return
        with self._changed:
            if len(self._waiting) == _MOST_WAITING:
                _log.info("%d nodes are not to be forgotten yet: the kernel still deals with others", len(known))
                return
            self._waiting.append(known)
            self._changed.notify()
        if self._sender is None:
            # A daemon: whether the kernel ever lets it go on may depend on requests that nobody answers any more.
            self._sender = threading.Thread(target=self._send_all, name="pruning", daemon=True)
            self._sender.start()

    def close(self) -> None:
        """Send nothing more: the descriptor may be closed now."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _send_all(self) -> None:
        while (message := self._next()) is not None:
            if self._is_possible:
                self.asked += len(message.nodes)
                self._send(message)
            os.close(message.fd)

    def _next(self) -> _Message | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return None
            # A descriptor of its own, and for no longer than it takes: the number of the session's may mean another file by the
            # time that it is written to, and a connection lives as long as any of its descriptors.
            return _Message(os.dup(self._fd), self._waiting.popleft())

    def _send(self, message: _Message) -> None:
        try:
            os.write(message.fd, wire.encode_prune(message.nodes))
        except OSError as error:
            if error.errno == errno.EINVAL:
                self._is_possible = False
                _log.info("this kernel cannot be asked to forget nodes, so max_inodes means nothing; Linux 6.18 can")
            elif error.errno not in (errno.ENODEV, errno.ENOTCONN):  # it has ended, which the next read tells
                _log.warning("the kernel could not forget nodes: %s", error.strerror)
