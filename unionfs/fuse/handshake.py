"""How a direct connection begins: the kernel's INIT, and our answer."""

from __future__ import annotations

import errno
import os
import select
import time

from unionfs.filesystem import Filesystem
from unionfs.fuse import wire
from unionfs.fuse.device import BUFFER_SIZE, ENDED, NOT_AWAITED, NOTHING_YET, receive
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.negotiation import Negotiated, negotiate
from unionfs.fuse.protocol import KERNEL_MINOR_VERSION, KERNEL_VERSION, InitFlag, Opcode
from unionfs.fuse.request_times import RequestTimes, end
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.fuse.wire import InitRequest, RequestHeader
from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability, in_initial_user_namespace

_PATIENCE = 30.0
"""Seconds.  The kernel sends INIT while it mounts (fs/fuse/inode.c, fuse_send_init), so it is there already."""


def agree(fd: int, settings: SessionSettings, patience: float = _PATIENCE) -> tuple[Negotiated, RequestTimes]:
    """Agree with the kernel; with the answer the mount is usable, and its requests wait to be served.  What was agreed on, and
    what that took.

    ``fd`` is mounted, and non-blocking.

    Raises:
        SessionError: what is asked for is impossible here, the mount was taken away, or no INIT came for ``patience`` seconds.
    """
    view = memoryview(bytearray(BUFFER_SIZE))
    times = RequestTimes()
    negotiated = None
    while negotiated is None:
        received = _first_request(fd, view, patience)
        began = time.perf_counter_ns()
        cells = times.begin(Opcode.INIT)
        negotiated = _answer(fd, settings, wire.REQUEST_HEADER.decode(view), view[wire.REQUEST_HEADER.size : received])
        end(cells, time.perf_counter_ns() - began)
    return negotiated, times


def connect(fd: int, filesystem: Filesystem, settings: SessionSettings, patience: float = _PATIENCE) -> DirectConnection:
    """The same, with the connection to serve the requests by.

    ``fd`` stays the caller's to close, after `DirectConnection.close`.  Errors as `agree`.
    """
    negotiated, times = agree(fd, settings, patience)
    return DirectConnection(fd, filesystem, settings, negotiated, times)


def _first_request(fd: int, view: memoryview, patience: float) -> int:
    """Read a request into ``view``; its length."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while (received := receive(fd, [view])) == NOTHING_YET:
        if not poll.poll(patience * 1000):
            raise SessionError("the kernel sent nothing, not even the first request; is the descriptor in use elsewhere?")
    if received == ENDED:
        raise SessionError("the mount was taken away before it was ready")
    return received


def _answer(fd: int, settings: SessionSettings, header: RequestHeader, body: memoryview) -> Negotiated | None:
    """Reply to INIT; what is agreed on, None if the kernel will ask again."""
    if header[1] != Opcode.INIT:
        raise SessionError(f"the kernel began with request {header[1]} instead of INIT; is the descriptor in use elsewhere?")
    offer: InitRequest = wire.decode_init(body)
    if offer.major > KERNEL_VERSION:
        # It then asks again, in our version.
        _write(fd, header, 0, wire.encode_init(KERNEL_MINOR_VERSION, 0, InitFlag(0), 0, 0, 0, 0))
        return None
    try:
        negotiated = negotiate(offer, settings, _may_register_backing())
    except SessionError:
        _write(fd, header, errno.EPROTO)
        raise
    _write(fd, header, 0, negotiated.encode())
    return negotiated


def _write(fd: int, header: RequestHeader, number: int, payload: bytes = b"") -> None:
    try:
        os.write(fd, wire.REPLY_HEADER.pack(wire.REPLY_HEADER.size + len(payload), -number, header[2]) + payload)
    except OSError as error:
        if error.errno not in NOT_AWAITED:
            raise


def _may_register_backing() -> bool:
    # fs/fuse/backing.c asks for capable(CAP_SYS_ADMIN), which is about the initial user namespace.
    return in_initial_user_namespace() and has_capability(CAP_SYS_ADMIN)
