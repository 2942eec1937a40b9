"""The memory of a journal: a file without a name that outlives the process that writes it.

Its beginning is of fixed size: numbers, the request that is being served, the last reply.  Behind that a log grows: transactions,
each of which counts once the number `HEAD` is behind it.  A process that is killed leaves its writes to the mapped file as far as
they went, in their order, so a transaction is there as a whole or not at all.

Requests are read right into this memory.  So to say what the next system call will do it takes no more than two numbers: the
request says the rest.  What only the process knows is written as a transaction behind the end of the log, where it does not count
yet: it is what holds once the system call was made, and to commit it takes a number again.

The log is kept short by moving what still holds from its beginning to its end: `JournalFile.oldest` and `JournalFile.drop`.
What was moved is given back to the system.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import deque
from enum import IntEnum

from unionfs.linux.allocate import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, fallocate
from unionfs.linux.shared_memory import SharedMemory

HEAD, TAIL, INTENT_HEAD, INTENT, LAST_BACKING, LAST_NODE, UNSETTLED, PROGRESS, TIMES_OF, ATIME, MTIME = range(11)
"""The numbers: where the log ends, where it begins; where it ended when the last intent was written, and that (see
`JournalFile.intend`); the highest backing id and node id so far; whether (not 0) a change of layers is under way; whether (not 0)
the worker that took over last has come to serve new requests; which directory is to get its times back (0: none), and these."""

FORMAT = 4
"""Another one for each change of what is written here: a program that goes on with a mount must understand it."""

_NUMBERS = 4096
MOST_REQUEST = 1 << 20 | 1 << 16
"""Bytes of a request."""
_REQUEST_AT = _NUMBERS
_REPLY_AT = _REQUEST_AT + MOST_REQUEST
_MOST_REPLY = 1 << 20 | 1 << 16
_LOG_AT = _REPLY_AT + 4096 + _MOST_REPLY
_SEGMENT = 1 << 16
"""Bytes; what is moved at a time, while requests wait."""

UNIQUE = (_REQUEST_AT + 8) // 8
"""Which of the numbers is the unique of the request: it stands behind its length and its opcode."""
WHOLE, IN_PLACE = range(2)
"""Forms of an intent; with the second what is made is not whole from the beginning.  It takes a bit of the unique that is not set
in any request (fs/fuse/fuse_i.h, FUSE_REQ_ID_STEP)."""

TRANSACTION = struct.Struct("@IIQ")
"""What a transaction begins with: an `Answer`, the length of all, unique."""


class Answer(IntEnum):
    """How the request of a transaction is answered, should it be sent again."""

    NONE = 0x4E585400  # it is no request's
    DONE = 0x4E585401  # with success and no payload
    AGAIN = 0x4E585402  # as when it is carried out again, though it counts once
    KEPT = 0x4E585403  # with the reply that is kept
    PREPARED = 0x4E585404  # as `DONE`, and it was written before it counted


_ANSWERS = frozenset(map(int, Answer))
"""Anything else is no transaction."""

_REPLY = struct.Struct("=QiI")  # unique, errno, length of the payload
_PAYLOAD_AT = _REPLY_AT + _REPLY.size


RESENT = 1 << 63
"""Bit of ``unique`` in a request that is sent again (FUSE_UNIQUE_RESEND of include/uapi/linux/fuse.h)."""
NOT_RESENT = ~RESENT


class JournalFile:
    """The memory, mapped by one process at a time that writes it."""

    def __init__(self, fd: int) -> None:
        """``fd``: of `new_journal`; stays the caller's."""
        self._fd = fd
        self._fixed = SharedMemory(fd, 0, _LOG_AT).view
        self.numbers = self._fixed[:_REPLY_AT].cast("Q")
        self.request = self._fixed[_REQUEST_AT : _REQUEST_AT + MOST_REQUEST]
        """Where the request that is being served is read to."""
        if not self.numbers[HEAD]:
            self.numbers[HEAD] = self.numbers[TAIL] = _LOG_AT
        self._extents: deque[tuple[int, int]] = deque()
        self._piece = self.numbers[TAIL]
        self.window: memoryview
        """The segment in which the log goes on."""
        self.base = self.at = 0
        """Where that begins, and where in it the log goes on."""
        self._enter_segment(self.numbers[HEAD])

    @property
    def length(self) -> int:
        """Bytes from the beginning of the log to its end."""
        return self.numbers[HEAD] - self.numbers[TAIL]

    def append(self, unique: int, answer: int, records: bytes) -> None:
        """Write a transaction, what the request ``unique`` changed: a new segment begins with it.  It may be longer than one."""
        transaction = TRANSACTION.pack(answer, TRANSACTION.size + len(records), unique) + records
        # What was prepared there and has not come about must not be taken for a transaction.
        at = self.at
        self.window[at : at + TRANSACTION.size] = bytes(len(self.window[at : at + TRANSACTION.size]))
        start = self.base + _SEGMENT
        end = start + len(transaction)
        os.ftruncate(self._fd, start + -(-len(transaction) // _SEGMENT) * _SEGMENT)
        written = 0
        while written < len(transaction):
            written += os.pwrite(self._fd, memoryview(transaction)[written:], start + written)
        self.numbers[HEAD] = end
        self._extents.append((self._piece, start))
        self._piece = start
        self._memory.close()
        self._enter_segment(end)

    def intend(self, form: int) -> None:
        """The next system call will do what the request says: holds until the next transaction, or request.

        ``form``: `WHOLE` or `IN_PLACE`.
        """
        numbers = self.numbers
        # In this order: the intent before, if there is one, is another request's.
        numbers[INTENT_HEAD] = self.base + self.at
        numbers[INTENT] = numbers[UNIQUE] | form

    def _enter_segment(self, end: int) -> None:
        """Map the segment in which the log goes on at ``end``."""
        self.base = _LOG_AT + max(end - 1 - _LOG_AT, 0) // _SEGMENT * _SEGMENT
        if os.fstat(self._fd).st_size < self.base + _SEGMENT:
            os.ftruncate(self._fd, self.base + _SEGMENT)
        self._memory = SharedMemory(self._fd, self.base, _SEGMENT, populate=True)
        self.window = self._memory.view
        self.at = end - self.base

    # -- reading ----------------------------------------------------------------------------------------------------------

    def transactions(self) -> list[tuple[int, int, memoryview]]:
        """All of the log, oldest first: (unique, `Answer`, the records)."""
        tail, head = self.numbers[TAIL], self.numbers[HEAD]
        found, starts = _transactions(os.pread(self._fd, head - tail, tail), tail)
        self._extents.clear()
        self._piece = tail
        for start in starts:
            # Each segment begins with a transaction, but for those that a long one goes through.
            if start != tail and (start - _LOG_AT) % _SEGMENT == 0:
                self._extents.append((self._piece, start))
                self._piece = start
        return found

    def oldest(self) -> list[memoryview]:
        """The records of the beginning of the log; empty if it has no piece that is complete."""
        if not self._extents:
            return []
        start, end = self._extents[0]
        found, _ = _transactions(os.pread(self._fd, end - start, start), start)
        return [records for _, _, records in found]

    def drop(self) -> None:
        """Forget what `oldest` gave; all that still holds of it has been appended."""
        start, end = self._extents.popleft()
        self.numbers[TAIL] = end
        self._give_back(start, end)

    def begin_anew(self, unique: int, answer: int, records: bytes) -> None:
        """`append`, and forget everything before it."""
        tail = self.numbers[TAIL]
        self.append(unique, answer, records)
        self._extents.clear()
        self.numbers[TAIL] = self._piece
        self._give_back(tail, self._piece)

    def _give_back(self, start: int, end: int) -> None:
        fallocate(self._fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start)

    # -- reply and intent ---------------------------------------------------------------------------------------------------

    def write_reply(self, unique: int, error: int, payload: bytes | memoryview) -> None:
        """What the request of the next transaction is answered; a payload that is too long is not kept.

        It is of no matter when this breaks off: as long as there is no transaction of that request, the reply to the one before
        has been sent.
        """
        length = len(payload)
        if length <= _MOST_REPLY:
            self._fixed[_REPLY_AT : _PAYLOAD_AT + length] = _REPLY.pack(unique, error, length) + payload
        else:
            self._fixed[_REPLY_AT:_PAYLOAD_AT] = bytes(_REPLY.size)

    def read_reply(self) -> tuple[int, int, bytes]:
        """The last one written: unique (0: none), errno, payload."""
        unique, error, length = _REPLY.unpack_from(self._fixed, _REPLY_AT)
        return unique, error, bytes(self._fixed[_PAYLOAD_AT : _PAYLOAD_AT + length])

    def read_intent(self) -> tuple[int, memoryview] | None:
        """The form of the last intent and the request that is about to be carried out; None: there is none."""
        numbers = self.numbers
        unique, form = numbers[UNIQUE], numbers[INTENT] & IN_PLACE
        if numbers[INTENT_HEAD] != numbers[HEAD] or numbers[INTENT] != unique | form:
            return None
        length = int.from_bytes(self.request[:4], sys.byteorder)
        return form, memoryview(bytes(self.request[:length]))

    def read_prepared(self, unique: int) -> memoryview:
        """The records of what the request ``unique`` has prepared; empty: nothing."""
        return memoryview(bytes(self.window[self.at + TRANSACTION.size : self.end_of_prepared(unique)]))

    def end_of_prepared(self, unique: int) -> int:
        """Where what the request ``unique`` has prepared ends, in the segment; 0: it has prepared nothing."""
        at = self.at
        if at + TRANSACTION.size <= _SEGMENT:
            mark, length, prepared_by = TRANSACTION.unpack_from(self.window, at)
            if mark == Answer.PREPARED and prepared_by & NOT_RESENT == unique:
                return at + int(length)
        return 0


def new_journal() -> int:
    """The descriptor of a new, empty memory for a `JournalFile`."""
    fd = os.memfd_create("unionfs-journal", os.MFD_CLOEXEC)
    os.ftruncate(fd, _LOG_AT + _SEGMENT)
    return fd


def _transactions(data: bytes, start: int) -> tuple[list[tuple[int, int, memoryview]], list[int]]:
    """The transactions of a part of the log that begins at ``start``, and where each begins."""
    view, found, starts = memoryview(data), [], []
    at = 0
    while at + TRANSACTION.size <= len(data):
        mark, length, unique = TRANSACTION.unpack_from(data, at)
        if mark not in _ANSWERS:
            # The rest of the segment was too short for the next one.
            at += _SEGMENT - (start + at - _LOG_AT) % _SEGMENT
            continue
        found.append((unique, mark, view[at + TRANSACTION.size : at + length]))
        starts.append(start + at)
        at += length
    return found, starts
