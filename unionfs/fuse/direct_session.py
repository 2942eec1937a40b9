"""The direct transport: one trio task that serves a `DirectConnection`.

When there is nothing to read, the task busy-waits for a moment if that is likely to pay (`unionfs.fuse.spin`), then waits in
trio.  A request that must wait for a work does so in a task of its own, and is answered from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence

import trio

from unionfs.filesystem import Blocking, Notice
from unionfs.fuse import wire
from unionfs.fuse.blocking import BlockingWorks
from unionfs.fuse.device import ENDED, NOTHING_YET, receive
from unionfs.fuse.direct_connection import DirectConnection, WaitingRequest
from unionfs.fuse.lane_waits import LaneWaits
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.request_times import Times, end
from unionfs.fuse.spin import Spin
from unionfs.fuse.wire import RequestHeader
from unionfs.linux.cpu_latency import CpuLatency

_TURN_NS = 2_000_000
"""How long requests may keep other trio tasks (control socket, finished works) and signals waiting."""

_UNAWAITED = frozenset((Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.RELEASE))
"""Requests that no client waits for.  They come just before the client's next one, so that is served first; they are, while the
client wakes up to its reply."""

_MOST_PUT_OFF = 32

_MOMENT_NS = 30_000
"""How long to look out for that next request: longer than a client takes that sends one after the other."""

_CONTENDED_NS = 30_000
"""A sched_yield(2) takes a microsecond.  After one that took longer than this, somebody else ran on our processor."""

_ON_ITS_WAY = 0.05
"""Seconds; a reply takes much less from us to where the kernel knows of the node that it tells of."""

_LINGER = 0.002
"""Seconds without a request after which idle processors may sleep again: the end of a burst, not a moment in it."""


class DirectSession:
    """One mount, served on its /dev/fuse descriptor.  See `unionfs.fuse.session.Session`."""

    def __init__(self, connection: DirectConnection, spin_us: int, on_progress: Callable[[], None] = lambda: None) -> None:
        """``spin_us``: see `unionfs.fuse.session.SessionSettings`.  ``on_progress`` is called soon after the first request that
        no other worker has read before.  The connection stays the caller's to close, after `run`."""
        self._on_progress: Callable[[], None] | None = on_progress
        self._connection = connection
        self._fd = connection.fd
        self._view = connection.view
        self._buffers = connection.buffers
        self._handle = connection.handle
        self._spin = Spin(spin_us)
        self._cpu_latency = _cpu_latency() if self._spin.window else None
        self._turn_ends = 0
        self._works = BlockingWorks()
        self._lane_waits = LaneWaits()
        self._began = 0
        self._put_off: list[tuple[RequestHeader, bytes, int]] = []
        self._reading = trio.CancelScope()
        self.is_stopped = False
        """Whether `stop` ended it."""

    @property
    def negotiated(self) -> dict[str, object]:
        """See `unionfs.fuse.session.Session.negotiated`."""
        return {"transport": "direct", **self._connection.negotiated.describe(), "spin_us": self._spin.window // 1000}

    @property
    def counters(self) -> dict[str, int]:
        """See `DirectConnection.counters`."""
        return self._connection.counters

    @property
    def times(self) -> dict[str, Times]:
        """See `unionfs.fuse.session.Session.times`."""
        return self._connection.times.describe()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `unionfs.fuse.session.Session.run`."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                self._connection.heed_interrupts(self._lane_waits.interrupt)
                self._connection.hand_over(lambda request: nursery.start_soon(self._answer_later, request))
                with self._reading:
                    await self._serve()
                # What they wait for may never come.  After `stop` the kernel sends their requests again.
                self._lane_waits.leave()
        finally:
            self._connection.flush()
            if self._cpu_latency is not None:
                self._cpu_latency.close()

    def stop(self) -> None:
        """Read no more requests; `run` returns when those that were read are answered."""
        self.is_stopped = True
        self._reading.cancel()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        clock = time.perf_counter_ns
        fd, view, buffers, handle = self._fd, self._view, self._buffers, self._handle
        self._began = clock()
        while True:
            received = receive(fd, buffers)
            if received == NOTHING_YET:
                received = await self._wait_for_request()
            if received == ENDED:
                self._catch_up()
                return
            header = wire.REQUEST_HEADER.unpack_from(view)
            body = view[wire.REQUEST_HEADER.size : received]
            if header[1] in _UNAWAITED and header[0] == received and len(self._put_off) < _MOST_PUT_OFF:
                self._put_off.append((header, bytes(body), self._began))
                now = clock()
            else:
                cells = handle(header, body, self._began)
                # The next request begins where this one ends: reading the clock once is enough while they come without a pause.
                now = clock()
                if cells is not None:
                    end(cells, now - self._began)
                if self._put_off:
                    self._catch_up()
                    now = clock()
            if now > self._turn_ends:
                self._catch_up()
                self._connection.settle()
                self._note_progress()
                await trio.lowlevel.checkpoint()
                now = clock()
                self._turn_ends = now + _TURN_NS
            self._began = now

    def _note_progress(self) -> None:
        if self._on_progress is not None and self._connection.new_requests:
            self._on_progress()
            self._on_progress = None

    def _catch_up(self) -> None:
        """Serve what was put off.  Before any other task runs, so that none of them sees a node still held that is not."""
        for header, body, began in self._put_off:
            cells = self._handle(header, memoryview(body), began)
            if cells is not None:
                end(cells, time.perf_counter_ns() - began)
        self._put_off.clear()

    async def _wait_for_request(self) -> int:
        clock = time.perf_counter_ns
        spin, latency = self._spin, self._cpu_latency
        now = idle_since = clock()
        spin.idle(now)
        received = NOTHING_YET
        while received == NOTHING_YET:
            # No busy-waiting while works run: trio must see them end.
            may_spin = not self._works and spin.may_continue(now)
            if self._put_off and not (may_spin and now - idle_since < _MOMENT_NS):
                self._catch_up()
            elif may_spin:
                if latency is not None and not latency.is_held:
                    latency.hold()
                    now = clock()
                os.sched_yield()
                if clock() - now > _CONTENDED_NS:
                    spin.give_way()
            else:
                await self._sleep()
                self._turn_ends = clock() + _TURN_NS
            received = receive(self._fd, self._buffers)
            now = clock()
        self._began = now
        spin.arrived(now)
        return received

    async def _sleep(self) -> None:
        """Wait for a request without busy-waiting."""
        self._connection.flush()
        self._note_progress()
        latency = self._cpu_latency
        if latency is not None and latency.is_held:
            with trio.move_on_after(_LINGER):
                await trio.lowlevel.wait_readable(self._fd)
                return
            latency.let_go()
        await trio.lowlevel.wait_readable(self._fd)

    # -- slow work ----------------------------------------------------------------------------------------------------

    async def _answer_later(self, request: WaitingRequest) -> None:
        await self._answer_after_work(request)
        end(request.cells, time.perf_counter_ns() - request.began)

    async def _answer_after_work(self, request: WaitingRequest) -> None:
        blocking: Blocking | None = request.blocking
        while blocking is not None:
            work = self._works.finish(blocking)
            try:
                result = await (work if blocking.lane is None else self._lane_waits.finish(request.header, work))
            except Exception as error:
                self._connection.refuse(request, error)
                return
            blocking = self._connection.resume(request, blocking, result)

    # -- telling ------------------------------------------------------------------------------------------------------

    async def tell(self, notices: Sequence[Notice]) -> None:
        """See `unionfs.fuse.session.Session.tell`."""
        connection = self._connection
        if connection.backing_files is not None:
            connection.backing_files.drop_idle()

        def notify_all() -> None:
            for notice in notices:
                connection.notify(notice)

        # In a thread: the kernel waits for locks of directories and pages, held by requests that are ours to answer.
        await trio.to_thread.run_sync(notify_all)

    async def forget_unknown(self, nodes: Collection[int], nlookup: Callable[[int], int]) -> None:
        """See `unionfs.fuse.session.Session.forget_unknown`."""
        connection = self._connection
        before = {node: nlookup(node) for node in nodes}

        def unknown(asked: Collection[int]) -> list[int]:
            return [node for node in asked if not connection.is_known(node)]

        candidates = await trio.to_thread.run_sync(unknown, before)
        # Who was just told of a node may be about to make it known to the kernel.
        await trio.sleep(_ON_ITS_WAY)
        for node in await trio.to_thread.run_sync(unknown, candidates):
            if nlookup(node) == before[node]:
                connection.forget(node, before[node])


def _cpu_latency() -> CpuLatency | None:
    """To keep idle processors awake while requests follow one another: the clients wait on those.  None without the right to."""
    try:
        return CpuLatency()
    except OSError:
        return None
