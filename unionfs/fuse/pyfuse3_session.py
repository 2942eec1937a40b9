"""The second transport: libfuse 3 by way of pyfuse3."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable, Collection, Sequence

import pyfuse3
import trio

from unionfs.filesystem import Filesystem, Forgettable, Notice
from unionfs.fuse.pruning import Pruning
from unionfs.fuse.pyfuse3_notices import notify, tell_of_stale_attributes
from unionfs.fuse.pyfuse3_operations import Pyfuse3Operations
from unionfs.fuse.request_times import Times
from unionfs.fuse.session import SessionError, SessionSettings

log = logging.getLogger("unionfs.fuse")


class Pyfuse3Session:
    """Serves one mount through libfuse.  See `unionfs.fuse.session.Session` for the members.

    What pyfuse3 cannot do, and the direct transport can: passthrough, zero-message open, writeback without loss of set-id bits,
    cached directories and symbolic links, fallocate(2), SEEK_DATA and SEEK_HOLE (the kernel then treats files as having no
    holes), and, on mounts made by fusermount3, modes that a default ACL keeps from the umask.  It does not tell what INIT
    settled, so `negotiated` lacks ``protocol`` and ``max_write``; and an ``Entry`` whose reply could not be delivered stays
    counted.

    pyfuse3 keeps its session in global variables, so a process can have one `Pyfuse3Session` running at a time.
    """

    _running = False

    def __init__(self, fd: int, filesystem: Filesystem, settings: SessionSettings) -> None:
        """``fd``: a mounted descriptor of /dev/fuse; it stays the caller's to close.

        Raises:
            SessionError: ``settings`` asks for passthrough.
        """
        if settings.data_path == "passthrough":
            raise SessionError("pyfuse3 has no passthrough; use the direct transport, or data path auto or cached")
        self._fd = fd
        self._filesystem = filesystem
        self._initialised = trio.Event()
        self._operations = Pyfuse3Operations(filesystem, settings, self._initialised.set)
        # libfuse has no such message, but needs not know of one either.  Whether the kernel has it shows when it is sent.
        self._pruning = Pruning(fd, kernel_id=self._operations.ids.known_id)
        self.negotiated: dict[str, object] = {}

    @property
    def counters(self) -> dict[str, int]:
        """See `unionfs.fuse.session.Session`."""
        return {**self._operations.counters, "asked_to_forget": self._pruning.asked}

    @property
    def times(self) -> dict[str, Times]:
        """See `unionfs.fuse.session.Session.times`."""
        return self._operations.times.describe()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `unionfs.fuse.session.Session`."""
        if Pyfuse3Session._running:
            raise SessionError("pyfuse3 serves one mount in a process; use the direct transport, or another process")
        Pyfuse3Session._running = True
        try:
            self._open()
            try:
                await self._serve(task_status)
            finally:
                self._pruning.close()
                pyfuse3.close(unmount=False)
        finally:
            Pyfuse3Session._running = False
        if not self._initialised.is_set():
            raise SessionError("the connection ended before libfuse and the kernel agreed on a protocol")

    def _open(self) -> None:
        # pyfuse3 raises for EAGAIN (see _answer_requests); but without it, a request that goes away between poll and read, as
        # its caller was killed, would block the whole loop.
        os.set_blocking(self._fd, False)
        # A mount point of this form makes libfuse use the open descriptor (fuse_session_mount, since 3.3), and close it.
        duplicate = os.dup(self._fd)
        try:
            pyfuse3.init(self._operations, f"/dev/fd/{duplicate}", set())
        except RuntimeError as error:
            os.close(duplicate)
            raise SessionError(f"libfuse {_libfuse_version()} does not take the connection: {error}") from error

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report_start, task_status)
            nursery.start_soon(self._send_notices)
            await self._answer_requests()
            nursery.cancel_scope.cancel()

    async def _report_start(self, task_status: trio.TaskStatus[None]) -> None:
        # libfuse answers INIT in the same step that sets the event, so the answer is out when this goes on.
        await self._initialised.wait()
        self.negotiated = {
            "transport": "pyfuse3",
            "libfuse": _libfuse_version(),
            "flags": ["readdirplus", *(["posix_acl"] if self._operations.enable_acl else [])],
            "data_path": "cached",
            "spin_us": 0,
            "stack_depth": 0,
        }
        task_status.started()

    async def _answer_requests(self) -> None:
        while True:
            try:
                await pyfuse3.main()
            except ExceptionGroup as group:
                # Nothing is lost: the handlers are shielded, so each request that was read has been answered by now.
                _, others = group.split(lambda error: isinstance(error, OSError) and error.errno == errno.EAGAIN)
                if others is not None:
                    raise
            else:
                return

    async def _send_notices(self) -> None:
        notices = self._filesystem.notices
        while True:
            while not notices:
                await self._operations.notices_waiting.park()
            tell_of_stale_attributes(notices, self._operations.ids)
            for notice in notices:
                if isinstance(notice, Forgettable):
                    self._pruning.ask(notice)
            notices.clear()

    async def tell(self, notices: Sequence[Notice]) -> None:
        """See `unionfs.fuse.session.Session.tell`."""
        ids = self._operations.ids
        known = [(ids.known_id(notice[0]), notice) for notice in notices]

        def notify_all() -> None:
            for kernel_id, notice in known:
                notify(kernel_id, notice)

        # In a thread: the kernel waits for locks of directories and pages, held by requests that are ours to answer.
        await trio.to_thread.run_sync(notify_all)

    async def forget_unknown(self, nodes: Collection[int], nlookup: Callable[[int], int]) -> None:
        """See `unionfs.fuse.session.Session.forget_unknown`: nothing, for nobody takes over here."""


def _libfuse_version() -> str:
    """The libfuse that pyfuse3 is linked to: its symbols are found through pyfuse3's own library."""
    library = ctypes.CDLL(pyfuse3.__file__)
    library.fuse_pkgversion.restype = ctypes.c_char_p
    version: bytes = library.fuse_pkgversion()
    return version.decode()
