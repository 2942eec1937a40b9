"""A mount whose workers die and are replaced: what a supervisor holds, and the kernel on the other side."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass

from tests.takeover.backing import Backings
from tests.takeover.kernel import REPORT, Connection, Kernel
from tests.takeover.worker import DEAD, Fate, Place, Shortening, Worker
from unionfs.filesystem import ROOT_ID
from unionfs.journal.storage import new_journal
from unionfs.linux.fork import fork_sharing_files
from unionfs.mounter.held import open_descriptors
from unionfs.overlay import Options, Stack

_LONGEST_MESSAGE = 1 << 20


@dataclass(frozen=True)
class Report:
    """What a worker knows: how many requests it ``answered`` with what another one had kept, and how often each node was looked
    up."""

    answered: int
    nlookup: dict[int, int]


class Mount:
    """A union, served by one worker after the other.

    Attributes:
        kernel: who asks.
        fate: when a worker dies.
        deaths: after how many steps the workers that take over die, the next one first.
        died: how many have.
    """

    def __init__(
        self, stack: Stack, options: Options, shortening: Shortening = "seldom", backings: Backings | None = None
    ) -> None:
        self._before = open_descriptors()
        self._socket, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        device.setblocking(False)
        self._device = device
        self._wake, self._waker = os.pipe()
        self._journal = new_journal()
        self._log = os.memfd_create("log")
        self.fate = Fate()
        self.deaths: list[int] = []
        self.died = 0
        kept = open_descriptors()
        self._place = Place(
            stack, options, device.fileno(), self._wake, self._journal, self._log, kept, self.fate, shortening, backings
        )
        self.kernel = Kernel(Connection(self._send, self._receive, self._replace, self._is_unread), backings is not None)
        self._pid = self._start(is_first=True)

    def _start(self, *, is_first: bool) -> int:
        pid = fork_sharing_files()
        if pid == 0:
            Worker(self._place).run(is_first)
        return pid

    def _send(self, message: bytes) -> None:
        self._socket.send(message)

    def _is_unread(self) -> bool:
        try:
            return bool(self._device.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def _receive(self) -> bytes | None:
        message = self._socket.recv(_LONGEST_MESSAGE)
        if message != DEAD:
            return message
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self.died += 1
        assert os.waitstatus_to_exitcode(status) == 9, self.log()
        return None

    def _replace(self) -> None:
        if self.fate.steps > 100_000 or self.died > 5:
            raise AssertionError(self.log())
        if self.deaths:
            self.fate.arm(self.deaths.pop(0))
        else:
            self.fate.disarm()
        self._pid = self._start(is_first=False)

    def report(self) -> Report:
        """Ask the worker."""
        found = json.loads(self.kernel.request(REPORT, ROOT_ID))
        self.kernel.answers.pop()
        return Report(found["answered"], {int(node): nlookup for node, nlookup in found["nodes"].items()})

    def log(self) -> list[str]:
        """What the workers had to say; a line for each."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, size, 0).decode().split("\0")[:-1]

    def end(self) -> list[int]:
        """Have the worker end; which descriptors are left that nobody knows."""
        if self._pid:
            os.write(self._waker, b"\n")
            os.waitpid(self._pid, 0)
            self._pid = 0
        self._socket.close()
        self._device.close()
        for fd in (self._wake, self._waker, self._journal, self._log):
            os.close(fd)
        left = sorted(open_descriptors() - self._before)
        for fd in left:
            os.close(fd)
        return left
