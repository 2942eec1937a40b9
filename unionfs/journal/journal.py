"""Writing down what changes, as the requests of one mount are carried out.

A request is carried out, then what it changed is committed together with its reply, then the reply is sent.  So what the journal
says holds for all requests but the last one, and for that it has the reply, or the intent, or neither: then it was not carried
out, or may be carried out again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from unionfs.journal import records
from unionfs.journal.records import NO_ROOM, Kind
from unionfs.journal.storage import (
    ATIME,
    HEAD,
    INTENT,
    INTENT_HEAD,
    LAST_BACKING,
    LAST_NODE,
    MTIME,
    NOT_RESENT,
    TAIL,
    TIMES_OF,
    TRANSACTION,
    UNIQUE,
    UNSETTLED,
    Answer,
    JournalFile,
)

_UNSIGNED = (1 << 64) - 1
_SMALL = 1 << 20
_FOR_EACH_NODE = 128
_STEP = 1 << 15
"""Bytes: a log that is longer than `_SMALL`, and than `_FOR_EACH_NODE` for each node, is shortened; where that gains little, not
again before it has grown by `_STEP`."""
_FEW = 3000
"""So many nodes are written down in a millisecond or two."""

_DONE, _NONE, _PREPARED = int(Answer.DONE), int(Answer.NONE), int(Answer.PREPARED)
_begin_transaction, _BEGINNING = TRANSACTION.pack_into, TRANSACTION.size

CARRIED_OUT_AGAIN = -1


class Reply(NamedTuple):
    """What a request is answered: ``error`` is an errno, 0 for success; `CARRIED_OUT_AGAIN`: what it gets when it is carried out
    again, but it has been counted."""

    unique: int
    error: int
    payload: bytes


Write = Callable[[memoryview, int], int]
"""Writes records into the memory from some place on; where they end.  Raises one of `NO_ROOM`."""


class Recorded:
    """What has a state that the journal keeps."""

    __slots__ = ()

    def write(self, window: memoryview, at: int) -> int:
        """Write its state now, as one of `unionfs.journal.records` or several: a `Write`."""
        raise NotImplementedError

    def write_transaction(self, window: memoryview, at: int, answer: int, unique: int) -> int:
        """The same as a transaction of its own; where that ends."""
        return write_transaction(self, window, at, answer, unique)


def write_transaction(item: Recorded, window: memoryview, at: int, answer: int, unique: int) -> int:
    """See `Recorded.write_transaction`."""
    end = item.write(window, at + _BEGINNING)
    _begin_transaction(window, at, answer, end - at, unique)
    return end


class Finished(bytes, Recorded):
    """A record that says the same whenever it is written."""

    def write(self, window: memoryview, at: int) -> int:
        """See `Recorded`."""
        end = at + len(self)
        window[at:end] = self
        return end


class Current(Protocol):
    """Where the present state of what an old record is about is to be had."""

    def current(self, kind: int, about: int) -> Recorded | None:
        """What now holds, None if nothing does: the record need not be kept."""

    def all_current(self) -> Iterable[Recorded]:
        """All that holds."""

    def __len__(self) -> int: ...


class _Ignored(dict[Recorded, None]):
    def __setitem__(self, key: Recorded, value: None) -> None:
        """Nobody reads it."""


class NoJournal:
    """Where nobody takes over: what is told to it is forgotten.  The methods are those of `Journal`."""

    is_kept = False
    """Whether anybody reads it, so that it is worth while to make records."""

    def __init__(self) -> None:
        self.touched: dict[Recorded, None] = _Ignored()
        self.request: memoryview | None = None
        """Where requests are to be read to; None: anywhere."""
        self.sources: list[Current] = []
        """Who knows the present states; whoever keeps some enters itself."""
        self.replies: dict[int, Reply] = {}

    def intend(self, form: int) -> None:
        """See `unionfs.journal.storage.JournalFile.intend`."""

    def intend_with(self, covered: tuple[Recorded, ...], *after: Write) -> None:
        """See `Journal.intend_with`."""

    def take_prepared(self, unique: int) -> None:
        """See `Journal.take_prepared`."""

    def retract(self) -> None:
        """See `Journal.retract`."""

    def commit(self, unique: int, answer: int) -> None:
        """See `Journal.commit`."""

    def write_reply(self, unique: int, error: int, payload: bytes | memoryview) -> None:
        """See `Journal.write_reply`."""

    def flush(self) -> None:
        """See `Journal.flush`."""

    def note_gone(self, node: int) -> None:
        """See `Journal.note_gone`."""

    def close_later(self, number: int, close: Callable[[int], object] = os.close) -> None:
        """See `Journal.close_later`."""
        close(number)

    def keep_reply(self, reply: Reply) -> None:
        """See `Journal.keep_reply`."""

    def take_reply(self, unique: int) -> Reply | None:  # noqa: ARG002
        """See `Journal.take_reply`."""
        return None

    def note_backing(self, backing_id: int) -> None:
        """See `Journal.note_backing`."""

    def keep_times(self, directory: int, st: os.stat_result) -> None:
        """See `Journal.keep_times`."""

    def times_are_kept(self) -> None:
        """See `Journal.times_are_kept`."""

    def begin_change(self) -> None:
        """See `Journal.begin_change`."""

    def end_change(self) -> None:
        """See `Journal.end_change`."""


class Journal(NoJournal):
    """The journal of one worker.

    Attributes:
        touched: what changed since the last commit; whoever changes something puts it in.  The keys count.
        request: where the requests are to be read to, for what is intended is what the one that stands there asks for.
        replies: what requests that another worker carried out are to be answered once they are sent again, by unique.
    """

    is_kept = True

    def __init__(self, file: JournalFile) -> None:
        super().__init__()
        self._file = file
        self.touched = {}
        self.request = file.request
        self.intend = file.intend  # type: ignore[method-assign]
        self._prepared = 0
        """Where what was prepared for the next commit ends; 0: nothing was."""
        self._covered: tuple[Recorded, ...] = ()
        self._gone: list[int] = []
        self._closing: list[tuple[Callable[[int], object], int]] = []
        self._look_at = file.numbers[TAIL] + _SMALL

    def commit(self, unique: int, answer: int) -> None:
        """Write down what was `touched`, and how ``unique`` is answered: now it may be.

        ``answer``: of `unionfs.journal.storage.Answer`; with `KEPT` after `write_reply`.
        """
        file, touched = self._file, self.touched
        start = file.at
        if self._prepared:
            start, self._prepared = self._prepared, 0
            for covered in self._covered:
                touched.pop(covered, None)
            file.at = start
            if not touched and answer == _DONE:
                file.numbers[HEAD] = file.base + start
                return
        try:
            if len(touched) == 1:
                for item in touched:
                    at = item.write_transaction(file.window, start, answer, unique)
            else:
                at = self._write_transaction(start, answer, unique)
        except NO_ROOM:
            file.append(unique, answer, self._touched_records())
            touched.clear()
            self._shorten(unique, answer)
            return
        touched.clear()
        file.at = at
        file.numbers[HEAD] = file.base + at

    def _write_transaction(self, start: int, answer: int, unique: int) -> int:
        window = self._file.window
        at = start + _BEGINNING
        for item in self.touched:
            at = item.write(window, at)
        _begin_transaction(window, start, answer, at - start, unique)
        return at

    def write_reply(self, unique: int, error: int, payload: bytes | memoryview) -> None:
        """What the request is answered that is committed next."""
        self._file.write_reply(unique, error, payload)

    def flush(self) -> None:
        """Write down what was touched outside any request, and what is gone, and then let go of what that had open."""
        if self._gone:
            self.touched[Finished(records.gone(self._gone))] = None
            self._gone.clear()
        if self.touched:
            self.commit(0, _NONE)
        for close, number in self._closing:
            close(number)
        self._closing.clear()

    def note_gone(self, node: int) -> None:
        """The kernel knows a node no more.  There is time until `flush`: what is found in its place tells of it as well."""
        self._gone.append(node)

    def close_later(self, number: int, close: Callable[[int], object] = os.close) -> None:
        """Close what is written down, a descriptor if ``close`` does nothing else, once it is written down that it is not needed
        any more."""
        self._closing.append((close, number))

    def keep_reply(self, reply: Reply) -> None:
        """A request that another worker carried out is answered this when it comes again.  Counts once it is written down."""
        self.replies[reply.unique] = reply
        self.touched[Finished(records.reply(*reply))] = None

    def take_reply(self, unique: int) -> Reply | None:
        """What the request is answered, which comes again; None if it must be carried out."""
        reply = self.replies.pop(unique & NOT_RESENT, None)
        if reply is not None:
            self.touched[Finished(records.answered(reply.unique))] = None
        return reply

    def intend_with(self, covered: tuple[Recorded, ...], *after: Write) -> None:
        """`intend`, and write a transaction that does not count yet: what holds once it is done, if it is answered with success
        and no payload.

        ``covered``: whose present states that will be then, so that they need not be written again if the request does nothing
        more to them; else `touched` tells of them as of all others.
        """
        file = self._file
        numbers = file.numbers
        unique = numbers[UNIQUE]
        window, start = file.window, file.at
        end = start + _BEGINNING
        try:
            for write in after:
                end = write(window, end)
            _begin_transaction(window, start, _PREPARED, end - start, unique)
        except NO_ROOM:
            self._intend_beyond(covered, after)
            return
        numbers[INTENT_HEAD] = file.base + start
        numbers[INTENT] = unique
        self._prepared, self._covered = end, covered

    def _intend_beyond(self, covered: tuple[Recorded, ...], after: tuple[Write, ...]) -> None:
        """What is prepared lies where the log goes on, so that must go on where there is room."""
        if after and len(_bytes_of(after)) > len(self._file.window) // 2:
            # Paths that long: what they are of is told once it is done.
            covered, after = (), after[:-1]
        self._file.append(0, _NONE, b"")
        self.intend_with(covered, *after)

    def take_prepared(self, unique: int) -> None:
        """What the request ``unique`` has prepared for another worker came about: it counts with the next commit, and is not
        written over before that."""
        self._prepared = self._file.end_of_prepared(unique)
        self._covered = ()

    def retract(self) -> None:
        """The request has failed, so what was intended was not done, or it shows in what was `touched`."""
        self._prepared = 0
        self._file.numbers[INTENT] = 0

    def keep_times(self, directory: int, st: os.stat_result) -> None:
        """The next system call moves the times of a directory (a node id), which shall be those of ``st`` nevertheless."""
        numbers = self._file.numbers
        numbers[ATIME], numbers[MTIME] = st.st_atime_ns & _UNSIGNED, st.st_mtime_ns & _UNSIGNED
        numbers[TIMES_OF] = directory

    def times_are_kept(self) -> None:
        """They are."""
        self._file.numbers[TIMES_OF] = 0

    def begin_change(self) -> None:
        """A change of layers begins: should it be the last that is heard of, nothing that the kernel remembers can be relied
        on."""
        self._file.numbers[UNSETTLED] = 1

    def end_change(self) -> None:
        """It is over, and the kernel was told."""
        self._file.numbers[UNSETTLED] = 0

    def note_backing(self, backing_id: int) -> None:
        """This id was registered."""
        self._file.numbers[LAST_BACKING] = backing_id

    def _touched_records(self) -> bytes:
        return _bytes_of([item.write for item in self.touched])

    # -- keeping it short ---------------------------------------------------------------------------------------------------

    def _shorten(self, unique: int, answer: int) -> None:
        """If the log is long for what there is to know, move what still holds of its oldest piece to its end, so that nobody
        waits for long; or write down all, where that is little.  ``unique`` and ``answer``: of the last commit, which stays what
        was done last."""
        file = self._file
        if file.numbers[HEAD] <= self._look_at:
            return
        known = sum(len(source) for source in self.sources)
        wanted = max(_SMALL, _FOR_EACH_NODE * known)
        if known < _FEW:
            for source in self.sources:
                self.touched.update(dict.fromkeys(source.all_current()))
            self.touched.update(dict.fromkeys(Finished(records.reply(*reply)) for reply in self.replies.values()))
            file.begin_anew(unique, answer, self._touched_records())
            self.touched.clear()
        elif file.length > wanted and (oldest := file.oldest()):
            self.touched.update(dict.fromkeys(self._holding(oldest)))
            if self.touched:
                self._append(unique, answer)
            file.drop()
        self._look_at = max(file.numbers[TAIL] + wanted, file.numbers[HEAD] + _STEP)

    def _append(self, unique: int, answer: int) -> None:
        """`commit` without keeping it short."""
        file = self._file
        try:
            end = self._write_transaction(file.at, answer, unique)
        except NO_ROOM:
            file.append(unique, answer, self._touched_records())
        else:
            file.at = end
            file.numbers[HEAD] = file.base + end
        self.touched.clear()

    def _holding(self, transactions: list[memoryview]) -> Iterator[Recorded]:
        """The present states of what old records are about."""
        subjects: dict[tuple[int, int], None] = {}
        numbers = self._file.numbers
        for transaction in transactions:
            for kind, body in records.split(transaction):
                if kind == Kind.RUN:
                    first, _, names = records.run_body(body)
                    subjects.update(((Kind.NODE, first + position), None) for position in range(len(names)))
                elif kind == Kind.GONE:
                    # Their ids must not be used again, though nothing tells of them any more.
                    numbers[LAST_NODE] = max(numbers[LAST_NODE], *records.nodes_body(body))
                else:
                    subjects[kind, records.about(body)] = None
        for kind, about in subjects:
            if kind == Kind.REPLY and about in self.replies:
                yield Finished(records.reply(*self.replies[about]))
            for source in self.sources:
                if (current := source.current(kind, about)) is not None:
                    yield current


def _bytes_of(writes: Iterable[Write]) -> bytes:
    """All that these write."""
    size = 4096
    while True:
        window, at = memoryview(bytearray(size)), 0
        try:
            for write in writes:
                at = write(window, at)
        except NO_ROOM:
            size *= 4
            continue
        return bytes(window[:at])
