"""Backing files: the real files that the kernel reads and writes by itself on behalf of nodes (FUSE passthrough).

What the kernel demands (fs/fuse/iomode.c, passthrough.c, backing.c of Linux 6.18; each broken rule makes an open fail with EIO):

* All passthrough opens of an inode at a time have the same backing id.
* Passthrough opens and cached opens of an inode exclude each other in time.
* KEEP_CACHE does not go along with PASSTHROUGH.

So a node that has opens keeps the mode of the first one.  A backing id stays registered after the last release, because a file
opened once is often opened again; an upper bound keeps the real files that the kernel holds for this in check.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator

from unionfs.filesystem import Caller, Filesystem, Opened, call_now
from unionfs.fuse.protocol import IOC_BACKING_CLOSE, IOC_BACKING_OPEN, OpenFlag
from unionfs.fuse.wire import BACKING_ID, BACKING_MAP
from unionfs.journal import records
from unionfs.journal.journal import Finished, NoJournal, Recorded
from unionfs.journal.records import Kind
from unionfs.journal.recovered import Backing, Recovered

_log = logging.getLogger("unionfs.fuse")

MAX_IDLE = 4096
"""How many backing ids stay registered without an open.  The kernel counts them against nobody's limit of open files."""

_NONE = 0
"""The backing id of a node whose opens go through the kernel's page cache; the kernel's own ids start at 1."""


_pack_into, _KIND, _SIZE = records.BACKING.pack_into, int(Kind.BACKING), records.BACKING.size

_NOBODY = Caller(0, 0, 0, 0)


class _Backing(Recorded):
    """The state of one node: mode (by ``id``), which real file (``generation``; ``device`` and ``ino``, 0 as long as only writers
    opened it), number of ``opens``, and whether one of these is for writing; ``noted``: how many the journal tells of."""

    __slots__ = ("device", "generation", "id", "ino", "is_written", "node", "noted", "opens")

    def __init__(self, node: int, backing_id: int, generation: int, device: int = 0, ino: int = 0) -> None:
        self.node = node
        self.id = backing_id
        self.generation = generation
        self.device = device
        self.ino = ino
        self.opens = 0
        self.noted = 0
        self.is_written = False

    def write(self, window: memoryview, at: int) -> int:
        """What the journal keeps of it."""
        self.noted = opens = self.opens
        _pack_into(window, at, _KIND, _SIZE, self.node, self.device, self.ino, self.id, opens, self.is_written)
        return at + _SIZE


class BackingFiles:
    """The backing ids of one connection."""

    def __init__(self, fd: int, filesystem: Filesystem, journal: NoJournal | None = None, max_idle: int = MAX_IDLE) -> None:
        """``fd``: the connection, after INIT agreed on passthrough."""
        self._journal = journal or NoJournal()
        self._touched = self._journal.touched
        self._journal.sources.append(self)
        self._fd = fd
        self._filesystem = filesystem
        self._max_idle = max_idle
        self._open: dict[int, _Backing] = {}
        self._idle: OrderedDict[int, _Backing] = OrderedDict()  # the least recently released first
        self._closed: dict[int, None] = {}
        """Nodes that nothing is registered of any more, which is not yet written down."""
        self._released: dict[_Backing, None] = {}
        """Those with fewer opens than the journal tells, all of them for reading."""
        self._released_by_writers: dict[_Backing, None] = {}
        self._refusals: set[int] = set()
        self.registered = 0
        """How many times an id was registered."""
        self.refused = 0
        """How many times the kernel refused to: these opens went through the page cache."""

    def acquire(self, node: int, opened: Opened, writes: bool = True) -> tuple[OpenFlag, int]:
        """Account for one open of ``node``, which ``writes`` or only reads; returns the open flags and the backing id to reply.

        Raises:
            OSError: ESTALE: the kernel holds another real file open for this node.  A filesystem answers ESTALE itself before
                this (see `Filesystem.pin`).
        """
        backing = self._open.get(node) or self._revive(node, opened.generation, writes)
        first = backing is None
        if backing is None:
            backing = self._register(node, opened.generation, writes)
        elif backing.id and backing.generation != opened.generation:
            raise OSError(errno.ESTALE, f"node {node} is open in passthrough on another real file")
        self._open[node] = backing
        backing.opens += 1
        if backing.opens > backing.noted or (writes and not backing.is_written):
            backing.is_written = backing.is_written or writes
            self._touched[backing] = None
        if backing.id:
            self._filesystem.pin(node)
            return OpenFlag.NOFLUSH | OpenFlag.PASSTHROUGH, backing.id
        # The pages are those of the last cached open, and nothing wrote behind them since: a passthrough open would have replaced
        # this backing.
        keep_cache = not first and not opened.truncated
        return OpenFlag.NOFLUSH | (OpenFlag.KEEP_CACHE if keep_cache else OpenFlag(0)), _NONE

    def release(self, node: int) -> None:
        """Take one `acquire` back.  Written down when there is time: should it be lost, the node counts as open until it is
        forgotten.

        Raises:
            OSError: EBADF: there is none.
        """
        backing = self._open.get(node)
        if backing is None:
            raise OSError(errno.EBADF, f"node {node} is not open")
        if backing.id:
            self._filesystem.unpin(node)
        backing.opens -= 1
        (self._released_by_writers if backing.is_written else self._released)[backing] = None
        if backing.opens:
            return
        backing.is_written = False
        del self._open[node]
        self._idle[node] = backing
        if len(self._idle) > self._max_idle:
            _, oldest = self._idle.popitem(last=False)
            self._close(oldest)

    def forget(self, node: int, is_known: bool = False) -> None:
        """The kernel has dropped references to the node; ``is_known``: not all.

        A node that it forgot has no opens, for each holds its inode (fs/fuse/file.c, fuse_release_end).
        """
        backing = self._idle.pop(node, None)
        if backing is None and not is_known:
            # One that counts as open was released when another worker served, which had not written that down.
            backing = self._open.pop(node, None)
        if backing is not None:
            self._close(backing)

    def drop_idle(self) -> None:
        """Let go of the real files that nobody has open: their layer is to be free."""
        while self._idle:
            _, backing = self._idle.popitem()
            self._close(backing)
        self.note_released()
        self._journal.flush()

    def note_released(self, readers: bool = True) -> None:
        """Have written down which nodes are not open any more; ``readers``: also those that were read only."""
        touched = self._touched
        if self._closed:
            touched[Finished(records.closed(self._closed))] = None
            self._closed.clear()
        if self._released_by_writers:
            self._note_fewer_opens(self._released_by_writers, always=True)
        if readers and self._released:
            self._note_fewer_opens(self._released, always=False)

    def _note_fewer_opens(self, released: dict[_Backing, None], always: bool) -> None:
        idle = []
        for backing in released:
            if not backing.opens:
                backing.noted = 0
                idle.append(backing.node)
            elif always or backing.noted != backing.opens:
                self._touched[backing] = None
        if idle:
            # One record of all takes a fraction of the time.
            self._touched[Finished(records.released(idle))] = None
        released.clear()

    def _revive(self, node: int, generation: int, writes: bool) -> _Backing | None:
        backing = self._idle.get(node)
        if backing is None:
            return None
        if backing.generation == generation:
            if not (writes or backing.ino) and backing.id:
                # A snapshot may freeze it now, and a copy-up put another one in its place.
                self._note_file(backing, self._filesystem.backing_fd(node))
            return self._idle.pop(node)
        # Also where it was refused: the node may have been copied up to where the kernel accepts it.
        self._close(self._idle.pop(node))
        return None

    def _register(self, node: int, generation: int, writes: bool) -> _Backing:
        self._closed.pop(node, None)
        # A mutable buffer: with an immutable one fcntl.ioctl returns the buffer instead of what ioctl(2) returned.
        fd = self._filesystem.backing_fd(node)
        request = bytearray(BACKING_MAP.pack(fd, 0, 0))
        try:
            backing_id = fcntl.ioctl(self._fd, IOC_BACKING_OPEN, request)
        except OSError as error:
            self._note_refusal(error)
            return _Backing(node, _NONE, generation)
        self.registered += 1
        self._journal.note_backing(backing_id)
        if writes:
            # It is in the upper, where no copy-up puts another one in its place.
            return _Backing(node, backing_id, generation)
        backing = _Backing(node, backing_id, generation)
        self._note_file(backing, fd)
        return backing

    @staticmethod
    def _note_file(backing: _Backing, fd: int) -> None:
        st = os.fstat(fd)
        backing.device, backing.ino = st.st_dev, st.st_ino

    def _note_refusal(self, error: OSError) -> None:
        # ELOOP: the layer lies on a stacking filesystem itself (raise the stack depth); EOPNOTSUPP, EINVAL: its files cannot be.
        self.refused += 1
        if error.errno not in self._refusals:
            self._refusals.add(error.errno or 0)
            _log.warning("passthrough refused for a file (%s); such files go through the page cache", error.strerror)

    def _close(self, backing: _Backing) -> None:
        if backing.id:
            self._journal.close_later(backing.id, self._close_id)
        for waiting in (self._touched, self._released, self._released_by_writers):
            waiting.pop(backing, None)
        self._closed[backing.node] = None

    def _close_id(self, backing_id: int) -> None:
        fcntl.ioctl(self._fd, IOC_BACKING_CLOSE, BACKING_ID.pack(backing_id))

    # -- the journal ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._open) + len(self._idle)

    def all_current(self) -> Iterator[_Backing]:
        """See `unionfs.journal.journal.Current`."""
        yield from self._open.values()
        yield from self._idle.values()

    def current(self, kind: int, about: int) -> _Backing | None:
        """See `unionfs.journal.journal.Current`."""
        return (self._open.get(about) or self._idle.get(about)) if kind == Kind.BACKING else None

    def recover(self, recovered: Recovered) -> None:
        """Go on with what another worker has registered; its nodes are known again."""
        for node, found in recovered.backings.items():
            if found.opens:
                self._take_over(node, found)
            elif found.id:
                self._close_if_there(found.id)
                self._closed[node] = None
        # Registered, perhaps, when it had not yet been noted, or noted, when what it is of had not yet been written down; then
        # nobody was told.  The kernel counts up (fs/fuse/backing.c, idr_alloc_cyclic).
        known = {_NONE, *(found.id for found in recovered.backings.values())}
        for backing_id in (*recovered.closed, recovered.last_backing, recovered.last_backing + 1):
            if backing_id not in known:
                self._close_if_there(backing_id)

    def _close_if_there(self, backing_id: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(self._fd, IOC_BACKING_CLOSE, BACKING_ID.pack(backing_id))

    def _take_over(self, node: int, found: Backing) -> None:
        filesystem = self._filesystem
        backing = self._open[node] = _Backing(node, found.id, 0, found.device, found.ino)
        backing.opens = backing.noted = found.opens
        backing.is_written = found.is_written
        try:
            for _ in range(found.opens if found.id else 0):
                filesystem.pin(node)
            backing.generation = call_now(filesystem.open, node, os.O_RDONLY, _NOBODY).generation
            if found.id and found.ino:
                st = os.fstat(call_now(filesystem.backing_fd, node))
                if (st.st_dev, st.st_ino) != (found.device, found.ino):
                    # It was copied up, and that was the last that the other one did.
                    filesystem.leave_behind(node)
        except OSError as error:
            if error.errno != errno.ESTALE:  # that is what a node that was left behind before is opened with
                _log.warning("node %d is open, and its file is not found again: %s", node, error.strerror)
