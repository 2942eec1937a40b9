"""The direct transport: one trio task that speaks the kernel's FUSE protocol on /dev/fuse.

The way of a request: read without waiting, look its opcode up, call the filesystem, write the reply.  All of it is synchronous in
one task, so nothing of the filesystem's state needs a lock.  When there is nothing to read, the task busy-waits for a moment if
that is likely to pay (`unionfs.fuse.spin`), then waits in trio.  A request whose filesystem method raises `Blocking` leaves that
path: it takes a copy of its bytes along, waits for the work in a task of its own, and is answered from there.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import trio

from unionfs.filesystem import Blocking, Filesystem, Forgettable, Notice, StaleAttributes
from unionfs.fuse import wire
from unionfs.fuse.backing import BackingFiles
from unionfs.fuse.blocking import BlockingWorks
from unionfs.fuse.direct_handlers import DirectHandlers, Operation
from unionfs.fuse.negotiation import MAX_WRITE, Negotiated, negotiate
from unionfs.fuse.protocol import KERNEL_MINOR_VERSION, KERNEL_VERSION, InitFlag, Opcode
from unionfs.fuse.pruning import Pruning
from unionfs.fuse.request_times import Cells, RequestTimes, Times, end, opcode_name
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.fuse.spin import Spin
from unionfs.fuse.wire import RequestHeader
from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability, in_initial_user_namespace
from unionfs.linux.cpu_latency import CpuLatency

_log = logging.getLogger("unionfs.fuse")

_TURN_NS = 2_000_000
"""How long requests may keep other trio tasks (control socket, finished works) and signals waiting."""

_UNAWAITED = frozenset((Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.RELEASE))
"""Requests that no client waits for.  They come just before the client's next one, so that is served first; they are, while the
client wakes up to its reply."""

_MOST_PUT_OFF = 32

_MOMENT_NS = 30_000
"""How long to look out for that next request: longer than a client takes that sends one after the other."""

_LINGER = 0.002
"""Seconds without a request after which idle processors may sleep again: the end of a burst, not a moment in it."""

# fs/fuse/dev.c refuses reads into less than header, fuse_write_in and the data of the longest WRITE; a page more for names.
_BUFFER_SIZE = wire.REQUEST_HEADER.size + wire.WRITE_IN.size + MAX_WRITE + 4096

_SHORT = 8192
"""Bytes of a reply that are copied behind its header in less time than writev(2) takes for two pieces."""

_NOTHING_YET = 0
_ENDED = -1

_HIGHEST_ERRNO = 511  # fs/fuse/dev.c, fuse_dev_do_write: a reply with a higher one is not accepted


class DirectSession:
    """One mount, served on its /dev/fuse descriptor.  See `unionfs.fuse.session.Session`."""

    def __init__(self, fd: int, filesystem: Filesystem, settings: SessionSettings) -> None:
        """``fd`` is mounted, non-blocking, and stays the caller's to close, after `run`."""
        self._fd = fd
        self._filesystem = filesystem
        self._settings = settings
        self._spin = Spin(settings.spin_us)
        self._cpu_latency = _cpu_latency() if self._spin.window else None
        self._turn_ends = 0
        self._works = BlockingWorks()
        self._times = RequestTimes()
        self._began = 0
        self._put_off: list[tuple[RequestHeader, bytes, int]] = []
        self._failures = 0
        self._blocked = 0
        self._negotiated: Negotiated | None = None
        self._backing_files: BackingFiles | None = None
        self._handlers: DirectHandlers
        self._pruning: Pruning
        self._view = memoryview(bytearray(_BUFFER_SIZE))
        self._buffers = [self._view]

    @property
    def negotiated(self) -> dict[str, object]:
        """See `unionfs.fuse.session.Session.negotiated`."""
        if self._negotiated is None:
            return {}
        return {"transport": "direct", **self._negotiated.describe(), "spin_us": self._spin.window // 1000}

    @property
    def counters(self) -> dict[str, int]:
        """See `unionfs.fuse.session.Session.counters`; with passthrough also ``backing_registered`` and ``backing_refused``."""
        counters = self._times.counts()
        counters |= {"errors": self._times.errors(), "failures": self._failures, "blocking": self._blocked}
        counters["asked_to_forget"] = self._pruning.asked if self._negotiated is not None else 0
        if self._backing_files is not None:
            counters |= {"backing_registered": self._backing_files.registered, "backing_refused": self._backing_files.refused}
        return counters

    @property
    def times(self) -> dict[str, Times]:
        """See `unionfs.fuse.session.Session.times`."""
        return self._times.describe()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `unionfs.fuse.session.Session.run`."""
        await self._handshake()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pruning.run)
                await self._serve(nursery)
                self._pruning.close()
        finally:
            if self._cpu_latency is not None:
                self._cpu_latency.close()

    # -- INIT ---------------------------------------------------------------------------------------------------------

    async def _handshake(self) -> None:
        while self._negotiated is None:
            received = self._receive()
            if received == _NOTHING_YET:
                await trio.lowlevel.wait_readable(self._fd)
                continue
            if received == _ENDED:
                raise SessionError("the mount was taken away before it was ready")
            header = wire.REQUEST_HEADER.decode(self._view)
            if header[1] != Opcode.INIT:
                raise SessionError(
                    f"the kernel began with request {header[1]} instead of INIT; is the descriptor in use elsewhere?"
                )
            began = time.perf_counter_ns()
            cells = self._times.begin(Opcode.INIT)
            self._answer_init(header, wire.decode_init(self._view[wire.REQUEST_HEADER.size : received]))
            end(cells, time.perf_counter_ns() - began)

    def _answer_init(self, header: RequestHeader, offer: wire.InitRequest) -> None:
        if offer.major > KERNEL_VERSION:
            # It then asks again, in our version.
            self._reply_to_init(header, wire.encode_init(KERNEL_MINOR_VERSION, 0, InitFlag(0), 0, 0, 0, 0))
            return
        try:
            negotiated = negotiate(offer, self._settings, _may_register_backing())
        except SessionError:
            self._send_error(header, errno.EPROTO)
            raise
        # Before the reply: with it, requests come.
        if negotiated.data_path == "passthrough":
            self._backing_files = BackingFiles(self._fd, self._filesystem)
        self._handlers = DirectHandlers(
            self._filesystem, self._settings, negotiated.flags, self._backing_files, self._invalidate_attributes
        )
        self._pruning = Pruning(self._fd, negotiated.can_prune)
        self._reply_to_init(header, negotiated.encode())
        self._negotiated = negotiated

    def _reply_to_init(self, header: RequestHeader, payload: bytes) -> None:
        try:
            os.write(self._fd, wire.encode_reply_header(header[2], len(payload)) + payload)
        except OSError as error:
            if error.errno not in _NOT_AWAITED:
                raise

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _serve(self, nursery: trio.Nursery) -> None:
        clock = time.perf_counter_ns
        self._began = clock()
        while True:
            received = self._receive()
            if received == _NOTHING_YET:
                received = await self._wait_for_request(nursery)
            if received == _ENDED:
                self._catch_up(nursery)
                return
            header = wire.REQUEST_HEADER.unpack_from(self._view)
            body = self._view[wire.REQUEST_HEADER.size : received]
            if header[1] in _UNAWAITED and header[0] == received and len(self._put_off) < _MOST_PUT_OFF:
                self._put_off.append((header, bytes(body), self._began))
                now = clock()
            else:
                cells = self._handle(header, body, nursery, self._began)
                # The next request begins where this one ends: reading the clock once is enough while they come without a pause.
                now = clock()
                if cells is not None:
                    end(cells, now - self._began)
                if self._put_off:
                    self._catch_up(nursery)
                    now = clock()
            if now > self._turn_ends:
                self._catch_up(nursery)
                await trio.lowlevel.checkpoint()
                now = clock()
                self._turn_ends = now + _TURN_NS
            self._began = now

    def _catch_up(self, nursery: trio.Nursery) -> None:
        """Serve what was put off.  Before any other task runs, so that none of them sees a node still held that is not."""
        for header, body, began in self._put_off:
            cells = self._handle(header, memoryview(body), nursery, began)
            if cells is not None:
                end(cells, time.perf_counter_ns() - began)
        self._put_off.clear()

    async def _wait_for_request(self, nursery: trio.Nursery) -> int:
        clock = time.perf_counter_ns
        spin, latency = self._spin, self._cpu_latency
        now = idle_since = clock()
        spin.idle(now)
        received = _NOTHING_YET
        while received == _NOTHING_YET:
            # No busy-waiting while works run: trio must see them end.
            may_spin = not self._works and spin.may_continue(now)
            if self._put_off and not (may_spin and now - idle_since < _MOMENT_NS):
                self._catch_up(nursery)
            elif may_spin:
                if latency is not None and not latency.is_held:
                    latency.hold()
                os.sched_yield()
            else:
                await self._sleep()
                self._turn_ends = clock() + _TURN_NS
            received = self._receive()
            now = clock()
        self._began = now
        spin.arrived(self._began)
        return received

    async def _sleep(self) -> None:
        """Wait for a request without busy-waiting."""
        latency = self._cpu_latency
        if latency is not None and latency.is_held:
            with trio.move_on_after(_LINGER):
                await trio.lowlevel.wait_readable(self._fd)
                return
            latency.let_go()
        await trio.lowlevel.wait_readable(self._fd)

    def _receive(self) -> int:
        """Read the next request into the buffer without waiting; its length, or `_NOTHING_YET`, or `_ENDED`."""
        try:
            return os.readv(self._fd, self._buffers)
        except BlockingIOError:
            return _NOTHING_YET
        except OSError as error:
            if error.errno == errno.ENODEV:
                return _ENDED
            if error.errno == errno.ENOENT:
                # fs/fuse/dev.c: the request was interrupted before it could be read.
                return _NOTHING_YET
            raise

    # -- answering ----------------------------------------------------------------------------------------------------

    def _handle(self, header: RequestHeader, body: memoryview, nursery: trio.Nursery, began: int) -> Cells | None:
        """Serve a request that was read at ``began``; what its time is to be put down in, None if it is not over."""
        opcode = header[1]
        cells = self._times.begin(opcode)
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
        body = memoryview(bytes(body))
        nursery.start_soon(self._answer_later, blocking, operation, header, body, cells, began)
        return None

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
        try:
            payload = operation.finish(header, body, operation.call(header, body))
        except Blocking as blocking:
            return blocking
        except Exception as error:
            self._reply_error(header, error)
        else:
            self._send(header, payload)
        return None

    def _finish(self, operation: Operation, header: RequestHeader, body: memoryview, result: Any) -> Blocking | None:
        """The same, where the filesystem's result is there already."""
        return self._answer(Operation(lambda _header, _body: result, operation.finish), header, body)

    async def _answer_later(
        self, blocking: Blocking, operation: Operation, header: RequestHeader, body: memoryview, cells: Cells, began: int
    ) -> None:
        await self._answer_after_work(blocking, operation, header, body)
        end(cells, time.perf_counter_ns() - began)

    async def _answer_after_work(self, blocking: Blocking, operation: Operation, header: RequestHeader, body: memoryview) -> None:
        next_blocking: Blocking | None = blocking
        while next_blocking is not None:
            blocking = next_blocking
            try:
                result = await self._works.finish(blocking)
            except Exception as error:
                self._reply_error(header, error)
                return
            if blocking.restart:
                next_blocking = self._answer(operation, header, body)
            else:
                next_blocking = self._finish(operation, header, body, result)

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

    # -- writing ------------------------------------------------------------------------------------------------------

    def _send(self, header: RequestHeader, payload: bytes) -> None:
        length = len(payload)
        reply_header = wire.encode_reply_header(header[2], length)
        try:
            if length < _SHORT:
                os.write(self._fd, reply_header + payload)
            else:
                os.writev(self._fd, (reply_header, payload))
        except OSError as error:
            self._take_back(header, payload, error)
        if self._filesystem.notices:
            self._send_notices()

    def _send_error(self, header: RequestHeader, number: int) -> None:
        self._times.fail(header[1])
        try:
            os.write(self._fd, wire.REPLY_HEADER.pack(wire.REPLY_HEADER.size, -number, header[2]))
        except OSError as error:
            if error.errno not in _NOT_AWAITED:
                self._note_failure(header, error)
        if self._filesystem.notices:
            self._send_notices()

    def _take_back(self, header: RequestHeader, payload: bytes, error: OSError) -> None:
        if error.errno not in _NOT_AWAITED:
            # The kernel looked at the reply and did not like it (EINVAL: longer than asked for); it ends the request with EIO.
            self._note_failure(header, error)
        self._handlers.take_back(header, payload)

    def _send_notices(self) -> None:
        # After the reply: that may carry attributes of the same node, which would count as newer.
        notices = self._filesystem.notices
        for notice in notices:
            if isinstance(notice, Forgettable):
                self._pruning.ask(notice)
            else:
                self._invalidate_attributes(notice.node)
        notices.clear()

    def _invalidate_attributes(self, node: int) -> None:
        # Attributes only: to invalidate data the kernel waits for page locks, which may be held by a request that waits for us.
        # For attributes it takes one spinlock (fs/fuse/inode.c, fuse_reverse_inval_inode), so this cannot deadlock.
        self._notify(StaleAttributes(node))

    async def tell(self, notices: Sequence[Notice]) -> None:
        """See `unionfs.fuse.session.Session.tell`."""
        if self._backing_files is not None:
            self._backing_files.drop_idle()

        def notify_all() -> None:
            for notice in notices:
                self._notify(notice)

        # In a thread: the kernel waits for locks of directories and pages, held by requests that are ours to answer.
        await trio.to_thread.run_sync(notify_all)

    def _notify(self, notice: Notice) -> None:
        try:
            os.write(self._fd, wire.encode_notice(notice))
        except OSError as error:
            if error.errno not in _NOT_AWAITED:
                _log.error("the kernel refuses %r: %s", notice, error.strerror)


# What a write to /dev/fuse fails with when nobody waits for it any more: ENOENT, the request was aborted or the kernel has
# forgotten the node; ENODEV and ENOTCONN, the connection has ended, which the next read tells.
_NOT_AWAITED = frozenset((errno.ENOENT, errno.ENODEV, errno.ENOTCONN))


def _cpu_latency() -> CpuLatency | None:
    """To keep idle processors awake while requests follow one another: the clients wait on those.  None without the right to."""
    try:
        return CpuLatency()
    except OSError:
        return None


def _may_register_backing() -> bool:
    # fs/fuse/backing.c asks for capable(CAP_SYS_ADMIN), which is about the initial user namespace.
    return in_initial_user_namespace() and has_capability(CAP_SYS_ADMIN)
