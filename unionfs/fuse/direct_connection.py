"""The direct transport's end of one connection: what becomes of a request that has been read.  Knows no event loop.

The way of a request: look its opcode up, call the filesystem, write the reply.  All of it is synchronous, so nothing of the
filesystem's state needs a lock.  A request whose filesystem method raises `Blocking` leaves that path with a copy of its bytes,
as a `WaitingRequest`: whoever serves the connection finishes the work and comes back with it.

Who serves it?  At first `DirectConnection.serve_until`, while the event loop is still being loaded; then
`unionfs.fuse.direct_session`.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from unionfs.filesystem import Blocking, Filesystem, Forgettable, Notice, StaleAttributes
from unionfs.fuse import wire
from unionfs.fuse.backing import BackingFiles
from unionfs.fuse.device import BUFFER_SIZE, ENDED, NOT_AWAITED, NOTHING_YET, lacks_descriptors, receive
from unionfs.fuse.direct_handlers import DirectHandlers, Operation
from unionfs.fuse.negotiation import Negotiated
from unionfs.fuse.protocol import EPOCH_MINOR_VERSION, Opcode
from unionfs.fuse.pruning import Pruning
from unionfs.fuse.repeated import MAKING, Repeated
from unionfs.fuse.request_times import Cells, RequestTimes, end, opcode_name
from unionfs.fuse.session import SessionSettings
from unionfs.fuse.wire import RequestHeader
from unionfs.journal.journal import CARRIED_OUT_AGAIN, NoJournal, Reply
from unionfs.journal.recovered import Intent, Recovered
from unionfs.journal.storage import RESENT, Answer

_log = logging.getLogger("unionfs.fuse")

_SHORT = 8192
"""Bytes of a reply that are copied behind its header in less time than writev(2) takes for two pieces."""

_COUNTED = frozenset(map(int, (Opcode.LOOKUP, Opcode.READDIRPLUS, Opcode.OPEN, *MAKING)))
"""Requests whose reply can be had once more, but for what they count."""

_DONE, _AGAIN, _KEPT = map(int, (Answer.DONE, Answer.AGAIN, Answer.KEPT))

_NONE_YET = object()
"""The result of a call that has not returned."""

_HIGHEST_ERRNO = 511  # fs/fuse/dev.c, fuse_dev_do_write: a reply with a higher one is not accepted


class WaitingRequest(NamedTuple):
    """A request that cannot be answered before a work is done."""

    blocking: Blocking
    operation: Operation
    header: RequestHeader
    body: memoryview
    """Its own: the receive buffer is for the next request."""
    cells: Cells
    began: int


class DirectConnection:
    """One connection after INIT (see `unionfs.fuse.handshake.connect`).  All methods belong to one thread at a time."""

    def __init__(
        self,
        fd: int,
        filesystem: Filesystem,
        settings: SessionSettings,
        negotiated: Negotiated,
        times: RequestTimes,
        journal: NoJournal | None = None,
    ) -> None:
        """``fd`` is non-blocking, and stays the caller's to close, after `close`.  ``journal``: the one that ``filesystem`` uses
        too."""
        self.fd = fd
        self.negotiated = negotiated
        self._journal = journal = journal or NoJournal()
        buffer = memoryview(bytearray(BUFFER_SIZE)) if journal.request is None else journal.request
        self.view = buffer[:BUFFER_SIZE]
        self.buffers = [self.view]
        """For `unionfs.fuse.device.receive`."""
        self.times = times
        self._touched = journal.touched
        self.backing_files = BackingFiles(fd, filesystem, journal) if negotiated.data_path == "passthrough" else None
        self._filesystem = filesystem
        self._handlers = DirectHandlers(filesystem, settings, negotiated.flags, self.backing_files, self._invalidate_attributes)
        self._repeated = Repeated(filesystem, self._handlers.operations)
        self._pruning = Pruning(fd, negotiated.can_prune)
        self._failures = 0
        self._resent = 0
        self._blocked = 0
        self._waiting: list[WaitingRequest] = []
        self._wait: Callable[[WaitingRequest], object] = self._waiting.append

    @property
    def counters(self) -> dict[str, int]:
        """See `unionfs.fuse.session.Session.counters`; with passthrough also ``backing_registered`` and ``backing_refused``."""
        counters = self.times.counts()
        counters |= {"errors": self.times.errors(), "failures": self._failures, "blocking": self._blocked}
        counters["asked_to_forget"] = self._pruning.asked
        if self.backing_files is not None:
            counters |= {"backing_registered": self.backing_files.registered, "backing_refused": self.backing_files.refused}
        return counters

    @property
    def new_requests(self) -> int:
        """How many requests were begun that no other worker had read before."""
        return sum(self.times.counts().values()) - self._resent

    def close(self) -> None:
        """Nothing is written any more, by no thread either."""
        self._pruning.close()

    # -- serving without an event loop ----------------------------------------------------------------------------------

    def serve_until(self, wake: int) -> None:
        """Serve until the descriptor ``wake`` is readable, or the kernel ends the connection (which whoever serves it next will
        read as well).  Requests that must wait are kept for `hand_over`."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self.fd, select.POLLIN)
        while wake not in dict(poll.poll(0) or self._pause(poll)):
            received = receive(self.fd, self.buffers)
            if received == ENDED:
                break
            if received != NOTHING_YET:
                self._serve(received)
        self.flush()

    def _pause(self, poll: select.poll) -> list[tuple[int, int]]:
        self.flush()
        return poll.poll()

    def _serve(self, received: int) -> None:
        began = time.perf_counter_ns()
        size = wire.REQUEST_HEADER.size
        cells = self.handle(wire.REQUEST_HEADER.unpack_from(self.view), self.view[size:received], began)
        if cells is not None:
            end(cells, time.perf_counter_ns() - began)

    def heed_interrupts(self, interrupt: Callable[[memoryview, RequestHeader], None]) -> None:
        """From now on ``interrupt`` gets the body of each INTERRUPT, and its header."""
        self._handlers.unanswered[Opcode.INTERRUPT] = interrupt

    def hand_over(self, wait: Callable[[WaitingRequest], object]) -> None:
        """From now on ``wait`` gets the requests that must wait, and first those that do already."""
        self._wait = wait
        for request in self._waiting:
            wait(request)
        self._waiting.clear()

    # -- answering ----------------------------------------------------------------------------------------------------

    def handle(self, header: RequestHeader, body: memoryview, began: int) -> Cells | None:
        """Serve a request that was read at ``began``; what its time is to be put down in, None if it is not over."""
        opcode = header[1]
        cells = self.times.begin(opcode)
        if header[2] >= RESENT:
            self._resent += 1
            if self._answer_again(header, body):
                return cells
        received = wire.REQUEST_HEADER.size + len(body)
        if header[0] != received:
            self._reply_error(header, wire.MalformedRequestError(f"{received} bytes read, {header[0]} announced"))
            return cells
        operation = self._handlers.operations.get(opcode)
        if operation is None:
            self._handle_other(header, body)
            return cells
        blocking = self._answer(operation, header, body)
        if blocking is None:
            return cells
        self._blocked += 1
        # The buffer is for the next request; what waits keeps no more than its own bytes, for there may be thousands.
        self._wait(WaitingRequest(blocking, operation, header, memoryview(bytes(body)), cells, began))
        return None

    def resume(self, request: WaitingRequest, blocking: Blocking, result: Any) -> Blocking | None:
        """Go on with a request after the work of ``blocking``, which returned ``result``.  Not None: it must wait once more."""
        operation = request.operation
        if self._journal.is_kept:
            # What is intended is what stands in the buffer.
            size = wire.REQUEST_HEADER.size
            self.view[:size] = wire.REQUEST_HEADER.pack(*request.header)
            self.view[size : size + len(request.body)] = request.body
        if not blocking.restart:
            operation = Operation(lambda _header, _body: result, operation.finish)
        return self._answer(operation, request.header, request.body)

    def refuse(self, request: WaitingRequest, error: Exception) -> None:
        """Answer a request whose work failed."""
        self._reply_error(request.header, error)

    def _handle_other(self, header: RequestHeader, body: memoryview) -> None:
        unanswered = self._handlers.unanswered.get(header[1])
        if unanswered is None:
            self._send_error(header, errno.ENOSYS)
            return
        try:
            unanswered(body, header)
        except Exception as error:
            self._note_failure(header, error)
        if self._filesystem.notices:
            self._send_notices()

    def _answer(self, operation: Operation, header: RequestHeader, body: memoryview) -> Blocking | None:
        """Serve a request from the start, and reply, unless it must wait."""
        result: Any = _NONE_YET
        try:
            result = operation.call(header, body)
            payload = operation.finish(header, body, result)
        except Blocking as blocking:
            self._journal.retract()
            return blocking
        except Exception as error:
            self._journal.retract()
            if result is _NONE_YET and lacks_descriptors(error) and self._give_way():
                return self._answer(operation, header, body)
            self._reply_error(header, error)
        else:
            self._send(header, payload)
        return None

    def _give_way(self) -> bool:
        self.settle()  # which closes what only waits for that
        return self._filesystem.give_way()

    def _reply_error(self, header: RequestHeader, error: Exception) -> None:
        number = error.errno if isinstance(error, OSError) else None
        if number is None or not 0 < number <= _HIGHEST_ERRNO:
            self._note_failure(header, error)
            number = errno.EIO
        elif number == errno.ENOSYS:
            # From the filesystem it means this once; the kernel would never ask for the like again.
            number = errno.EOPNOTSUPP
        self._send_error(header, number)

    def _note_failure(self, header: RequestHeader, error: Exception) -> None:
        self._failures += 1
        _log.error("%s of node %d failed: %r", opcode_name(header[1]), header[3], error, exc_info=error)

    # -- taking over ----------------------------------------------------------------------------------------------------

    def recover(self, recovered: Recovered, is_done: bool) -> None:
        """Go on where another worker was killed, whose filesystem has recovered; the next to be served are the requests that it
        did not answer.  ``is_done``: the intent of ``recovered`` was carried out."""
        journal, intent = self._journal, recovered.intent
        if intent is not None and is_done:
            journal.take_prepared(intent.unique)
        for reply in recovered.replies.values():
            journal.keep_reply(reply)
        if self.backing_files is not None:
            self.backing_files.recover(recovered)
        if intent is not None and is_done:
            journal.keep_reply(Reply(intent.unique, 0, self._reply_to(intent)))
        self._send_notices()
        self.flush()
        if recovered.unsettled:
            # At once, so that nobody relies on a name between now and when the kernel has been told all.
            self.expire_names()
        self._write_message(wire.encode_resend())

    def _reply_to(self, intent: Intent) -> bytes:
        request = intent.request
        header = wire.REQUEST_HEADER.decode(request)
        return bytes(self._repeated.reply_to(header, request[wire.REQUEST_HEADER.size :])) if header[1] in MAKING else b""

    def _answer_again(self, header: RequestHeader, body: memoryview) -> bool:
        """Answer a request that another worker carried out as that would have; false if it has to be carried out."""
        reply = self._journal.take_reply(header[2])
        if reply is None:
            return False
        if reply.error == CARRIED_OUT_AGAIN:
            return self._answer_uncounted(header, body)
        size = wire.REPLY_HEADER.size + len(reply.payload)
        try:
            os.write(self.fd, wire.REPLY_HEADER.pack(size, -reply.error, header[2]) + reply.payload)
        except OSError as error:
            self._take_back(header, reply.payload, error)
        # The notices that belong to it may not have been sent.
        self._invalidate_attributes(header[3])
        return True

    def _answer_uncounted(self, header: RequestHeader, body: memoryview) -> bool:
        try:
            payload = self._repeated.reply_to(header, body)
        except (OSError, Blocking) as error:
            # Its reply may be another one now; what was counted stays so until the connection ends.
            if header[1] not in MAKING:
                return False
            self._reply_error(header, error)
            return True
        # Before it is written down, so that a worker that takes over from this one has counted it once as well.
        self._handlers.take_back(header, bytes(payload))
        self._send(header, payload)
        return True

    def flush(self) -> None:
        """Write down all that waits to be, for there is time now."""
        self.settle(released=True)

    def settle(self, released: bool = False) -> None:
        """Write down what was forgotten, and give up what that had open; ``released``: also which files are not read any more."""
        if self.backing_files is not None:
            self.backing_files.note_released(released)
        self._journal.flush()

    # -- writing ------------------------------------------------------------------------------------------------------

    def _send(self, header: RequestHeader, payload: bytes | memoryview) -> None:
        if self._touched:
            if header[1] in _COUNTED:
                self._journal.commit(header[2], _AGAIN)
            elif payload:
                self._journal.write_reply(header[2], 0, payload)
                self._journal.commit(header[2], _KEPT)
            else:
                self._journal.commit(header[2], _DONE)
        notices = self._filesystem.notices
        if notices:
            self._send_stale_attributes()
        length = len(payload)
        reply_header = wire.encode_reply_header(header[2], length)
        try:
            if length < _SHORT:
                os.write(self.fd, reply_header + payload)
            else:
                os.writev(self.fd, (reply_header, payload))
        except OSError as error:
            self._take_back(header, payload, error)
        if notices:
            self._send_notices()

    def _send_error(self, header: RequestHeader, number: int) -> None:
        self.times.fail(header[1])
        if self._touched:
            self._journal.write_reply(header[2], number, b"")
            self._journal.commit(header[2], _KEPT)
        if self._filesystem.notices:
            self._send_stale_attributes()
        try:
            os.write(self.fd, wire.REPLY_HEADER.pack(wire.REPLY_HEADER.size, -number, header[2]))
        except OSError as error:
            if error.errno not in NOT_AWAITED:
                self._note_failure(header, error)
        if self._filesystem.notices:
            self._send_notices()

    def _take_back(self, header: RequestHeader, payload: bytes | memoryview, error: OSError) -> None:
        if error.errno not in NOT_AWAITED:
            # The kernel looked at the reply and did not like it (EINVAL: longer than asked for); it ends the request with EIO.
            self._note_failure(header, error)
        self._handlers.take_back(header, bytes(payload))

    def _send_stale_attributes(self) -> None:
        # Before the reply, so that who gets that sees no old attributes.  Those that the reply itself carries are taken over
        # nevertheless: for replies to changes the kernel does not ask whether there was a notice meanwhile (fs/fuse/dir.c,
        # fuse_do_setattr and create_new_entry).
        notices = self._filesystem.notices
        for notice in notices:
            if isinstance(notice, StaleAttributes):
                self._invalidate_attributes(notice.node)
        notices[:] = [notice for notice in notices if isinstance(notice, Forgettable)]

    def _send_notices(self) -> None:
        # What may be forgotten is told after the reply: that may be about one of these.
        self._send_stale_attributes()
        notices = self._filesystem.notices
        for notice in notices:
            if isinstance(notice, Forgettable):
                self._pruning.ask(notice)
        notices.clear()

    def _invalidate_attributes(self, node: int) -> None:
        # Attributes only: to invalidate data the kernel waits for page locks, which may be held by a request that waits for us.
        # For attributes it takes one spinlock (fs/fuse/inode.c, fuse_reverse_inval_inode), and drops a reference that cannot be
        # the last one while the request that changed the inode waits for its reply; so this cannot deadlock.
        self.notify(StaleAttributes(node))

    def notify(self, notice: Notice) -> None:
        """Tell the kernel what is no longer so.  May be called in any thread, and must be in another one than that which serves,
        for notices about more than attributes: the kernel then waits for locks that are held by requests."""
        self._write_message(wire.encode_notice(notice))

    def is_known(self, node: int) -> bool:
        """Whether the kernel knows a node.  It looks for its attributes anew if so.  To be called as `notify`."""
        try:
            os.write(self.fd, wire.encode_notice(StaleAttributes(node)))
        except OSError as error:
            return error.errno != errno.ENOENT  # fs/fuse/inode.c, fuse_reverse_inval_inode
        return True

    def forget(self, node: int, nlookup: int) -> None:
        """As if the kernel had told that it forgets so many lookups of ``node``."""
        self._handlers.forget(node, nlookup)

    def expire_names(self) -> None:
        """Have every name looked up again before it is used.  To be called as `notify`."""
        if self.negotiated.minor >= EPOCH_MINOR_VERSION:
            self._write_message(wire.encode_inc_epoch())

    def _write_message(self, message: bytes) -> None:
        try:
            os.write(self.fd, message)
        except OSError as error:
            if error.errno not in NOT_AWAITED:
                _log.error("the kernel refuses message %r: %s", message, error.strerror)
