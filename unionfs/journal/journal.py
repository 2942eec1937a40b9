"""Writing down what changes, as the requests of one mount are carried out.

A request is carried out, then what it changed is committed together with its reply, then the reply is sent.  So what the journal
says holds for all requests but the last one, and for that it has the reply, or the intent, or neither: then it was not carried
out, or may be carried out again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from unionfs.journal import records
from unionfs.journal.records import Act, Kind
from unionfs.journal.storage import HEAD, LAST_BACKING, LAST_NODE, TAIL, UNSETTLED, Answer, JournalFile

RESENT = 1 << 63
"""Bit of ``unique`` in a request that is sent again (FUSE_UNIQUE_RESEND of include/uapi/linux/fuse.h)."""
_NOT_RESENT = ~RESENT
_pack_intent = records.INTENT.pack

_SMALL = 1 << 20
_FOR_EACH_NODE = 128
_STEP = 1 << 15
"""Bytes: a log that is longer than `_SMALL`, and than `_FOR_EACH_NODE` for each node, is shortened; where that gains little, not
again before it has grown by `_STEP`."""
_FEW = 3000
"""So many nodes are written down in a millisecond or two."""


_NO_REQUEST = (0,) * 8


CARRIED_OUT_AGAIN = -1


class Reply(NamedTuple):
    """What a request is answered: ``error`` is an errno, 0 for success; `CARRIED_OUT_AGAIN`: what it gets when it is carried out
    again, but it has been counted."""

    unique: int
    error: int
    payload: bytes


class Recorded(Protocol):
    """What has a state that the journal keeps."""

    def record(self) -> bytes:
        """Its state now, as one of `unionfs.journal.records` or several."""


class Current(Protocol):
    """Where the present state of what an old record is about is to be had."""

    def current(self, kind: int, about: int) -> Recorded | bytes | None:
        """What now holds, None if nothing does: the record need not be kept."""

    def all_current(self) -> Iterable[Recorded | bytes]:
        """All that holds."""

    def __len__(self) -> int: ...


class _Ignored(dict[Recorded | bytes, None]):
    def __setitem__(self, key: Recorded | bytes, value: None) -> None:
        """Nobody reads it."""


class NoJournal:
    """Where nobody takes over: what is told to it is forgotten.  The methods are those of `Journal`."""

    def __init__(self) -> None:
        self.touched: dict[Recorded | bytes, None] = _Ignored()
        self.header: Sequence[int] = _NO_REQUEST
        self.sources: list[Current] = []
        """Who knows the present states; whoever keeps some enters itself."""
        self.replies: dict[int, Reply] = {}

    def commit(self, unique: int, error: int, payload: bytes | memoryview) -> None:
        """See `Journal.commit`."""

    def commit_counted(self, unique: int) -> None:
        """See `Journal.commit_counted`."""

    def flush(self) -> None:
        """See `Journal.flush`."""

    def intend(
        self,
        act: Act,
        parent: int,
        name: bytes,
        *,
        new_parent: int = 0,
        new_name: bytes = b"",
        node: int = 0,
        ino: int = 0,
        after: bytes = b"",
    ) -> None:
        """See `Journal.intend`."""

    def close_later(self, fd: int) -> None:
        """See `Journal.close_later`."""
        os.close(fd)

    def keep_reply(self, reply: Reply) -> None:
        """See `Journal.keep_reply`."""

    def take_reply(self, unique: int) -> Reply | None:  # noqa: ARG002
        """See `Journal.take_reply`."""
        return None

    def note_backing(self, backing_id: int) -> None:
        """See `Journal.note_backing`."""

    def begin_change(self) -> None:
        """See `Journal.begin_change`."""

    def end_change(self) -> None:
        """See `Journal.end_change`."""


class Journal(NoJournal):
    """The journal of one worker.

    Attributes:
        touched: what changed since the last commit; whoever changes something puts it in.  The keys count: objects, or finished
            records.
        header: of the request being served, as `unionfs.fuse.wire` decodes it: second its opcode, third its unique.
        replies: what requests that another worker carried out are to be answered once they are sent again, by unique.
    """

    def __init__(self, file: JournalFile) -> None:
        super().__init__()
        self._file = file
        self.touched = {}
        self._closing: list[int] = []
        self._look_at = file.numbers[TAIL] + _SMALL

    def commit(self, unique: int, error: int, payload: bytes | memoryview) -> None:
        """Write down what was `touched`, and that ``unique`` is answered with this: now it may be."""
        unique &= _NOT_RESENT
        if error or payload:
            self._file.write_reply(unique, error, payload)
            self._commit(unique, Answer.KEPT)
        else:
            self._commit(unique, Answer.DONE)

    def commit_counted(self, unique: int) -> None:
        """The same for a request of which only the counts matter: to carry it out again would give the same reply."""
        self._commit(unique & _NOT_RESENT, Answer.AGAIN)

    def _commit(self, unique: int, answer: int) -> None:
        touched = self.touched
        if len(touched) == 1:
            item = touched.popitem()[0]
            data = item if isinstance(item, bytes) else item.record()
        else:
            data = self._joined()
            touched.clear()
        head = self._file.append(unique, answer, data)
        if self._closing:
            self._close()
        if head > self._look_at:
            self._shorten(unique, answer)

    def _joined(self) -> bytes:
        return b"".join([item if isinstance(item, bytes) else item.record() for item in self.touched])

    def flush(self) -> None:
        """Write down what was touched outside any request."""
        if self.touched or self._closing:
            self._commit(0, Answer.NONE)

    def close_later(self, fd: int) -> None:
        """Close a descriptor that is written down, once it is written down that it is not needed any more."""
        self._closing.append(fd)

    def _close(self) -> None:
        for fd in self._closing:
            os.close(fd)
        self._closing.clear()

    def keep_reply(self, reply: Reply) -> None:
        """A request that another worker carried out is answered this when it comes again.  Counts once it is written down."""
        self.replies[reply.unique] = reply
        self.touched[records.reply(*reply)] = None

    def take_reply(self, unique: int) -> Reply | None:
        """What the request is answered, which comes again; None if it must be carried out."""
        reply = self.replies.pop(unique & _NOT_RESENT, None)
        if reply is not None:
            self.touched[records.answered(reply.unique)] = None
        return reply

    def intend(
        self,
        act: Act,
        parent: int,
        name: bytes,
        *,
        new_parent: int = 0,
        new_name: bytes = b"",
        node: int = 0,
        ino: int = 0,
        after: bytes = b"",
    ) -> None:
        """Say what the next system call will do, all checks being over: should nothing more be heard of it, whether it was done
        shows in the layers.

        Args:
            act: what it is.
            parent, name: the dentry that comes or goes; for attributes: the node, and the attribute's name.
            new_parent, new_name: the second dentry, if there are two.
            node: what moves, or loses its name; 0: nothing that the kernel knows.
            ino: the real inode number of what moves.
            after: records that hold once it is done; for attributes: the value.
        """
        file, header = self._file, self.header
        lengths = len(name), len(new_name), len(after)
        fixed = _pack_intent(file.head, header[2] & _NOT_RESENT, header[1], act, parent, new_parent, node, ino, *lengths)
        file.write_intent(fixed + name + new_name + after)

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

    # -- keeping it short ---------------------------------------------------------------------------------------------------

    def _shorten(self, unique: int, answer: int) -> None:
        """If the log is long for what there is to know, move what still holds of its oldest piece to its end, so that nobody
        waits for long; or write down all, where that is little.  ``unique`` and ``answer``: of the last commit, which stays what
        was done last."""
        file = self._file
        known = sum(len(source) for source in self.sources)
        wanted = max(_SMALL, _FOR_EACH_NODE * known)
        if known < _FEW:
            for source in self.sources:
                self.touched.update(dict.fromkeys(source.all_current()))
            self.touched.update(dict.fromkeys(records.reply(*reply) for reply in self.replies.values()))
            file.begin_anew(unique, answer, self._joined())
            self.touched.clear()
        elif file.length > wanted and (oldest := file.oldest()):
            self.touched.update(dict.fromkeys(self._holding(oldest)))
            if self.touched:
                file.append(unique, answer, self._joined())
                self.touched.clear()
            file.drop()
        self._look_at = max(file.numbers[TAIL] + wanted, file.numbers[HEAD] + _STEP)

    def _holding(self, transactions: list[memoryview]) -> Iterator[Recorded | bytes]:
        """The present states of what old records are about."""
        subjects: dict[tuple[int, int], None] = {}
        for transaction in transactions:
            for kind, body in records.split(transaction):
                subjects[kind, records.about(body)] = None
        numbers = self._file.numbers
        for kind, about in subjects:
            if kind == Kind.REPLY and about in self.replies:
                yield records.reply(*self.replies[about])
            if kind == Kind.GONE:
                # Its id must not be used again, though nothing tells of it any more.
                numbers[LAST_NODE] = max(numbers[LAST_NODE], about)
                continue
            for source in self.sources:
                if (current := source.current(kind, about)) is not None:
                    yield current
