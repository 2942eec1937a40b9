"""Asking the kernel to forget nodes that nobody uses (NOTIFY_PRUNE, since Linux 6.18)."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

import trio

from unionfs.filesystem import Forgettable
from unionfs.fuse import wire

_log = logging.getLogger("unionfs.fuse")

_MOST_WAITING = 8


class Pruning:
    """Sends what is to be forgotten on one connection, one message at a time and from a thread.

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
        self._waiting, self._requests = trio.open_memory_channel[Forgettable](_MOST_WAITING)
        self.asked = 0
        """How many nodes the kernel was asked to forget so far."""

    def ask(self, request: Forgettable) -> None:
        """Send it soon.  If the kernel is too slow for all that is asked, it is not sent: the filesystem asks again."""
        if not self._is_possible:
            return
        try:
            self._waiting.send_nowait(request)
        except trio.WouldBlock:
            _log.info("%d nodes are not to be forgotten yet: the kernel still deals with others", len(request.nodes))

    async def run(self) -> None:
        """Send until `close`."""
        async for request in self._requests:
            if not self._is_possible:
                continue
            known = [kernel_id for node in request.nodes if (kernel_id := self._kernel_id(node)) is not None]
            self.asked += len(known)
            # Abandoned on cancellation: nobody answers the requests any more that the kernel may wait for.  So with a descriptor
            # of its own: the number of the session's may mean another file by then.
            await trio.to_thread.run_sync(self._send, os.dup(self._fd), wire.encode_prune(known), abandon_on_cancel=True)

    def close(self) -> None:
        """Let `run` come to its end."""
        self._waiting.close()

    def _send(self, fd: int, message: bytes) -> None:
        try:
            os.write(fd, message)
        except OSError as error:
            if error.errno == errno.EINVAL:
                self._is_possible = False
                _log.info("this kernel cannot be asked to forget nodes, so max_inodes means nothing; Linux 6.18 can")
            elif error.errno not in (errno.ENODEV, errno.ENOTCONN):  # it has ended, which the next read tells
                _log.warning("the kernel could not forget nodes: %s", error.strerror)
        finally:
            os.close(fd)
