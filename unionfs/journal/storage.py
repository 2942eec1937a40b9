"""The memory of a journal: a file without a name that outlives the process that writes it.

Its beginning is of fixed size: numbers, the last reply, the last intent.  Behind that a log grows: transactions, each of which
counts once the number `HEAD` is behind it.  A process that is killed leaves its writes to the mapped file as far as they went,
in their order, so a transaction is there as a whole or not at all.

The log is kept short by moving what still holds from its beginning to its end: `JournalFile.oldest` and `JournalFile.drop`.
What was moved is given back to the system.
"""

from __future__ import annotations

import os
import struct
from collections import deque

from unionfs.linux.allocate import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, fallocate
from unionfs.linux.shared_memory import SharedMemory

HEAD, TAIL, REPLY_LENGTH, INTENT_LENGTH, LAST_BACKING, LAST_NODE, UNSETTLED, PROGRESS = range(8)
"""The numbers: where the log ends, where it begins; how long reply and intent are; the highest backing id and node id so far;
whether (not 0) a change of layers is under way; whether (not 0) the worker that took over last has come to serve new requests."""

_REPLY_AT = 4096
_MOST_REPLY = 1 << 20 | 1 << 16
_INTENT_AT = _REPLY_AT + _MOST_REPLY
_MOST_INTENT = 1 << 14
_LOG_AT = _INTENT_AT + _MOST_INTENT
_SEGMENT = 1 << 16
"""Bytes; what is moved at a time, while requests wait."""

_TRANSACTION = struct.Struct("=IIQ")  # mark, length of all, unique
_MARK = 0x4E585446
_REPLY = struct.Struct("=Qi")  # unique, errno


class JournalFile:
    """The memory, mapped by one process at a time that writes it."""

    def __init__(self, fd: int) -> None:
        """``fd``: of `new_journal`; stays the caller's."""
        self._fd = fd
        self._fixed = SharedMemory(fd, 0, _LOG_AT).view
        self.numbers = self._fixed[:_REPLY_AT].cast("Q")
        if not self.numbers[HEAD]:
            self.numbers[HEAD] = self.numbers[TAIL] = _LOG_AT
        self._extents: deque[tuple[int, int]] = deque()
        self._piece = self.numbers[TAIL]
        self._memory, self._base = self._map(self.numbers[HEAD])
        self._window = self._memory.view
        # What another process may have begun to write there must not be taken for a transaction that was left out.
        end = self.numbers[HEAD] - self._base
        self._window[end : end + _TRANSACTION.size] = bytes(len(self._window[end : end + _TRANSACTION.size]))

    @property
    def length(self) -> int:
        """Bytes from the beginning of the log to its end."""
        return self.numbers[HEAD] - self.numbers[TAIL]

    def append(self, unique: int, parts: list[bytes]) -> int:
        """Write a transaction: what the request ``unique`` changed.  Where the log ends now."""
        data = b"".join(parts)
        length = _TRANSACTION.size + len(data)
        at = self.numbers[HEAD] - self._base
        if at + length > _SEGMENT:
            return self._append_beyond(_TRANSACTION.pack(_MARK, length, unique) + data)
        self._window[at : at + length] = _TRANSACTION.pack(_MARK, length, unique) + data
        head = self.numbers[HEAD] = self._base + at + length
        return head

    def _append_beyond(self, data: bytes) -> int:
        """The transaction begins a new segment, and may be longer than one."""
        start = self._base + _SEGMENT
        end = start + len(data)
        os.ftruncate(self._fd, start + -(-len(data) // _SEGMENT) * _SEGMENT)
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, memoryview(data)[written:], start + written)
        self.numbers[HEAD] = end
        self._extents.append((self._piece, start))
        self._piece = start
        self._memory.close()
        self._memory, self._base = self._map(end)
        self._window = self._memory.view
        return end

    def _map(self, end: int) -> tuple[SharedMemory, int]:
        """The segment in which the log goes on at ``end``, and where it begins."""
        base = _LOG_AT + max(end - 1 - _LOG_AT, 0) // _SEGMENT * _SEGMENT
        if os.fstat(self._fd).st_size < base + _SEGMENT:
            os.ftruncate(self._fd, base + _SEGMENT)
        return SharedMemory(self._fd, base, _SEGMENT), base

    # -- reading ----------------------------------------------------------------------------------------------------------

    def transactions(self) -> list[tuple[int, memoryview]]:
        """All of the log, oldest first: (unique, its records)."""
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
        return [records for _, records in found]

    def drop(self) -> None:
        """Forget what `oldest` gave; all that still holds of it has been appended."""
        start, end = self._extents.popleft()
        self.numbers[TAIL] = end
        fallocate(self._fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start)

    # -- reply and intent ---------------------------------------------------------------------------------------------------

    def write_reply(self, unique: int, error: int, payload: bytes | memoryview) -> None:
        """What the request of the next transaction is answered; one too long is not kept."""
        numbers = self.numbers
        numbers[REPLY_LENGTH] = 0
        reply = _REPLY.pack(unique, error) + payload
        length = len(reply)
        if length <= _MOST_REPLY:
            self._fixed[_REPLY_AT : _REPLY_AT + length] = reply
            numbers[REPLY_LENGTH] = length

    def read_reply(self) -> tuple[int, int, bytes] | None:
        """The last one written."""
        reply = bytes(self._fixed[_REPLY_AT : _REPLY_AT + self.numbers[REPLY_LENGTH]])
        return (*_REPLY.unpack_from(reply), reply[_REPLY.size :]) if reply else None

    def write_intent(self, intent: bytes) -> None:
        """What is about to be done; holds until the next transaction."""
        numbers = self.numbers
        numbers[INTENT_LENGTH] = 0
        length = len(intent)
        self._fixed[_INTENT_AT : _INTENT_AT + length] = intent
        numbers[INTENT_LENGTH] = length

    def read_intent(self) -> bytes:
        """The last one written; empty: none."""
        return bytes(self._fixed[_INTENT_AT : _INTENT_AT + self.numbers[INTENT_LENGTH]])


def new_journal() -> int:
    """The descriptor of a new, empty memory for a `JournalFile`."""
    fd = os.memfd_create("unionfs-journal", os.MFD_CLOEXEC)
    os.ftruncate(fd, _LOG_AT + _SEGMENT)
    return fd


def _transactions(data: bytes, start: int) -> tuple[list[tuple[int, memoryview]], list[int]]:
    """The transactions of a part of the log that begins at ``start``, and where each begins."""
    view, found, starts = memoryview(data), [], []
    at = 0
    while at + _TRANSACTION.size <= len(data):
        mark, length, unique = _TRANSACTION.unpack_from(data, at)
        if mark != _MARK:
            # The rest of the segment was too short for the next one.
            at += _SEGMENT - (start + at - _LOG_AT) % _SEGMENT
            continue
        found.append((unique, view[at + _TRANSACTION.size : at + length]))
        starts.append(start + at)
        at += length
    return found, starts
