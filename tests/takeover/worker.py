"""A worker that serves a union on a socket in the place of /dev/fuse, and dies when it is told to.

It dies between two steps that others can see: system calls that change something, and writes to the numbers of the journal,
before which what is written there does not count.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import mmap
import os
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import pytest

from tests.faults.injection import Kind, guarded
from tests.takeover.backing import Backings
from tests.takeover.kernel import REPORT
from unionfs.fuse.direct_connection import DirectConnection, WaitingRequest
from unionfs.fuse.direct_handlers import Operation
from unionfs.fuse.intents import intents_of
from unionfs.fuse.negotiation import Negotiated, negotiate
from unionfs.fuse.protocol import InitFlag
from unionfs.fuse.request_times import RequestTimes
from unionfs.fuse.session import SessionSettings
from unionfs.fuse.wire import InitRequest
from unionfs.journal import journal, storage
from unionfs.journal.journal import Journal, Reply
from unionfs.journal.recovered import read_journal
from unionfs.journal.storage import JournalFile
from unionfs.mounter.held import open_descriptors
from unionfs.overlay import Options, Stack, Union

DEAD = b"dead"
"""What a worker that dies writes instead of a reply: too short for one."""

Shortening = Literal["seldom", "anew", "by pieces"]

STEP = "step: "
DIED = "died before "
"""What lines of the log begin with."""

_OFFER = InitRequest(7, 44, 1 << 17, InitFlag(sum(InitFlag)))

_write, _writev = os.write, os.writev
_CHANGES = Kind.CHANGES | Kind.ALLOCATES


class Fate:
    """When the worker of a mount dies: told by one process, kept by the other.

    Attributes of it are in memory that the two share.  ``steps`` are counted while it ``is_armed``, and before step ``at`` the
    worker dies; at -1 it lives.
    """

    _PLACES = struct.Struct("qqq")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.disarm()

    def arm(self, at: int = -1) -> None:
        """Begin to count."""
        self._PLACES.pack_into(self._memory, 0, 1, 0, at)

    def disarm(self) -> None:
        """Count no more, and let it live."""
        self._PLACES.pack_into(self._memory, 0, 0, self.steps, -1)

    @property
    def steps(self) -> int:
        """How many were counted."""
        return int(self._PLACES.unpack_from(self._memory)[1])

    @property
    def is_counting(self) -> bool:
        """Whether they are counted, and the worker lives whatever they are."""
        is_armed, _, at = self._PLACES.unpack_from(self._memory)
        return bool(is_armed) and at < 0

    def step(self) -> bool:
        """Count one; whether the worker is to die before it."""
        is_armed, steps, at = self._PLACES.unpack_from(self._memory)
        if not is_armed:
            return False
        self._PLACES.pack_into(self._memory, 0, 1, steps + 1, at)
        return bool(steps == at)


@dataclass(frozen=True)
class Place:
    """Where a worker works: descriptors of the connection, of what wakes it up to end, of the journal, of the log; and what of
    them and others is not its own."""

    stack: Stack
    options: Options
    fd: int
    wake: int
    journal: int
    log: int
    kept: frozenset[int]
    fate: Fate
    shortening: Shortening = "seldom"
    """How often, and by which of its two ways, the journal is shortened."""
    backings: Backings | None = None
    """With passthrough: where the ids are registered."""

    @property
    def settings(self) -> SessionSettings:
        """Of the session."""
        return SessionSettings(data_path="cached" if self.backings is None else "passthrough")

    @property
    def negotiated(self) -> Negotiated:
        """What INIT came to."""
        return negotiate(_OFFER, self.settings, may_register_backing=True)


class _Numbers:
    """The numbers of a journal; each change of one is a step."""

    def __init__(self, numbers: memoryview, step: Callable[[str], None]) -> None:
        self._numbers = numbers
        self._step = step

    def __getitem__(self, place: int) -> int:
        return self._numbers[place]

    def __setitem__(self, place: int, number: int) -> None:
        self._step(f"journal number {place}")
        self._numbers[place] = number


class Worker:
    """The process; its end is the end of `run`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.answered = 0
        """How many requests were answered with what another worker had kept."""
        self._is_open = False
        """Whether the union is: what it says of its layers before that every one says."""

    def run(self, is_first: bool) -> NoReturn:
        """Serve until told to end, or until it dies."""
        status = 1
        try:
            gc.disable()  # what our parent has left unclosed is its own
            self._log_to_parent()
            patch = pytest.MonkeyPatch()
            with guarded(self._call):
                patch.setattr(os, "write", self._guarded_write)
                patch.setattr(os, "writev", self._guarded_writev)
                if self._place.backings is not None:
                    patch.setattr(fcntl, "ioctl", self._place.backings.ioctl(self._step))
                if self._place.shortening != "seldom":
                    patch.setattr(storage, "_SEGMENT", mmap.PAGESIZE)
                    for limit in ("_SMALL", "_FOR_EACH_NODE", "_STEP"):
                        patch.setattr(journal, limit, 1)
                if self._place.shortening == "by pieces":
                    patch.setattr(journal, "_FEW", 0)
                self._serve(is_first)
            status = 0
        except BaseException:  # the parent is to know, whatever it is
            self._note(traceback.format_exc())
        finally:
            if status:
                self._die()
            os._exit(0)

    def _die(self) -> NoReturn:
        _write(self._place.fd, DEAD)
        os._exit(9)

    def _note(self, line: str) -> None:
        _write(self._place.log, line.encode() + b"\0")

    def _log_to_parent(self) -> None:
        worker = self

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if worker._is_open:
                    worker._note(f"{record.levelname}: {record.getMessage()}")

        root = logging.getLogger()
        root.handlers[:] = [Handler(logging.WARNING)]
        logging.disable(logging.NOTSET)

    # -- steps ------------------------------------------------------------------------------------------------------------

    def _step(self, name: str) -> None:
        if self._is_last_before(name):
            self._die_before(name)

    def _is_last_before(self, name: str) -> bool:
        fate = self._place.fate
        if fate.is_counting:
            self._note(f"{STEP}{name}")
        return fate.step()

    def _die_before(self, name: str) -> NoReturn:
        self._note(f"{DIED}{name}")
        self._die()

    def _call(self, name: str, kind: Kind) -> None:
        if kind & _CHANGES:
            self._step(name)

    def _guarded_write(self, fd: int, data: bytes) -> int:
        return self._sent(fd, _write, data)

    def _guarded_writev(self, fd: int, parts: Any) -> int:
        return self._sent(fd, _writev, parts)

    def _sent(self, fd: int, write: Callable[..., int], data: Any) -> int:
        self._step("a write")
        # Asked before it: then the other side may have gone on.
        is_last = self._is_last_before("what follows a write")
        written = write(fd, data)
        if is_last:
            self._die_before("what follows a write")
        return written

    # -- serving ----------------------------------------------------------------------------------------------------------

    def _serve(self, is_first: bool) -> None:
        place = self._place
        file = JournalFile(place.journal)
        recovered = None if is_first else read_journal(file, intents_of(place.negotiated))
        if recovered is not None:
            for fd in open_descriptors() - place.kept - recovered.descriptors:
                os.close(fd)
        file.numbers = _Numbers(file.numbers, self._step)  # type: ignore[assignment]
        union = Union(place.stack, place.options)
        self._is_open = True
        found = None if recovered is None else union.recover(recovered)
        written = self._journal(file)
        union.use_journal(written)
        if recovered is not None:
            union.note_recovered(recovered)
        connection = DirectConnection(place.fd, union, place.settings, place.negotiated, RequestTimes(), written)
        if recovered is not None and found is not None:
            connection.recover(recovered, found.done)
            if found.lost:
                self._note(f"{found.lost} nodes were lost")
        self._add_report(connection, union)
        connection.hand_over(lambda request: self._finish(connection, request))
        connection.serve_until(place.wake)
        if connection.counters["failures"]:
            self._note("requests have failed")
        connection.close()
        union.close()

    def _journal(self, file: JournalFile) -> Journal:
        written = Journal(file)
        take = written.take_reply

        def take_reply(unique: int) -> Reply | None:
            reply = take(unique)
            self.answered += reply is not None
            return reply

        written.take_reply = take_reply  # type: ignore[method-assign]
        return written

    @staticmethod
    def _finish(connection: DirectConnection, request: WaitingRequest) -> None:
        blocking = request.blocking
        while True:
            try:
                result = blocking.work()
            except OSError as error:
                connection.refuse(request, error)
                return
            further = connection.resume(request, blocking, result)
            if further is None:
                return
            blocking = further

    def _add_report(self, connection: DirectConnection, union: Union) -> None:
        """Serve a request more: what the union knows."""

        def report(_header: object, _body: object) -> bytes:
            nodes = {inode.node: inode.nlookup for inode in union._nodes}
            return json.dumps({"answered": self.answered, "nodes": nodes}).encode()

        connection._handlers.operations[REPORT] = Operation(report, lambda _header, _body, payload: payload)
