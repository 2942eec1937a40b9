"""Contents of files that stay open for long: by calls and through mappings, named, removed, or never named."""

from __future__ import annotations

import mmap
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.differential.player import Operation
from tests.load.work import PRESENT, Status, shared, weighted
from unionfs.linux.allocate import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, fallocate
from unionfs.linux.links import link_fd

SLOTS = 8
_MOST_BYTES = 200_000
_LONG_AGO_NS = 1_000_000_000 * 10**9
_AT_FDCWD = -100
_MODES = (0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE)


@dataclass
class _Open:
    fd: int
    maps: list[mmap.mmap] = field(default_factory=list)

    def close(self) -> None:
        for mapped in self.maps:
            mapped.close()
        # Whether a write through a mapping has moved it depends on when the page was last written out.
        os.utime(self.fd, ns=(_LONG_AGO_NS, _LONG_AGO_NS))
        os.close(self.fd)

    def status(self) -> Status:
        return shared(os.fstat(self.fd))._replace(mtime_ns=PRESENT)


class FilesWork:
    """Has up to `SLOTS` files open, each for hundreds of operations.

    Those of ``files`` come from the layers, and are taken in turn; new ones are made in ``made``.  All are opened for writing:
    `tests.load.readers_work` has those opened for reading only."""

    def __init__(self, top: Path) -> None:
        self._files, self._made = os.fsencode(top / "files"), os.fsencode(top / "made")
        self._count = len(os.listdir(self._files))
        self._next = 0
        self._open: dict[int, _Open] = {}

    def draw(self, dice: random.Random) -> list[Operation]:
        slot, other = dice.randrange(SLOTS), dice.randrange(SLOTS)
        if slot not in self._open:
            return [self._draw_open(dice, slot)]
        if other not in self._open:
            other = slot
        offset, length = dice.randrange(_MOST_BYTES), dice.randint(1, 20_000)
        data = dice.randbytes(length)
        choices: list[tuple[int, Operation]] = [
            (10, Operation("write", (slot, offset, data))),
            (12, Operation("read", (slot, offset, length))),
            (10, Operation("map_write", (slot, offset, data))),
            (8, Operation("map_read", (slot, offset, length))),
            (3, Operation("map", (slot,))),
            (2, Operation("map_privately", (slot, offset, data))),
            (1, Operation("map_sync", (slot,))),
            (3, Operation("append", (slot, data))),
            (4, Operation("truncate", (slot, offset))),
            (4, Operation("allocate", (slot, dice.choice(_MODES), offset, length))),
            (3, Operation("copy", (slot, other, offset, dice.randrange(_MOST_BYTES), length))),
            (2, Operation("sync", (slot,))),
            (4, Operation("status", (slot,))),
            (2, Operation("chmod", (slot, dice.choice((0o600, 0o644, 0o755))))),
            (1, Operation("chown", (slot, dice.choice((0, 1234)), dice.choice((0, 4321))))),
            (1, Operation("utime", (slot, dice.randrange(1000)))),
            (2, Operation("setxattr", (slot, data[:50]))),
            (2, Operation("link", (slot, dice.randrange(SLOTS)))),
            (2, Operation("reopen", (slot,))),
            (2, Operation("content", (slot,))),
            (1, Operation("release", (slot,))),
        ]
        return [weighted(dice, choices)]

    def _draw_open(self, dice: random.Random, slot: int) -> Operation:
        choices = [
            (3, Operation("open_lower", (slot,))),
            (3, Operation("open_removed", (slot,))),
            (2, Operation("open_unnamed", (slot,))),
            (2, Operation("open_made", (slot, dice.randrange(SLOTS)))),
            (1, Operation("remove_made", (dice.randrange(SLOTS),))),
        ]
        return weighted(dice, choices)

    def end(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    # -- opening and closing --------------------------------------------------------------------------------------

    def open_lower(self, slot: int) -> Status:
        return self._hold(slot, os.open(self._take(), os.O_RDWR | os.O_CREAT, 0o644))

    def open_removed(self, slot: int) -> Status:
        """A file that loses its name while it is open."""
        path = self._take()
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.unlink(path)
        return self._hold(slot, fd)

    def open_unnamed(self, slot: int) -> Status:
        return self._hold(slot, os.open(self._made, os.O_TMPFILE | os.O_RDWR, 0o600))

    def open_made(self, slot: int, name: int) -> Status:
        return self._hold(slot, os.open(self._name(name), os.O_RDWR | os.O_CREAT, 0o640))

    def remove_made(self, name: int) -> None:
        os.unlink(self._name(name))

    def link(self, slot: int, name: int) -> None:
        """Another name, or the first one of what was opened without."""
        link_fd(self._open[slot].fd, _AT_FDCWD, self._name(name))

    def reopen(self, slot: int) -> Status:
        """By way of /proc, which leads to a file without a name as well."""
        opened = self._open[slot]
        fd = os.open(f"/proc/self/fd/{opened.fd}", os.O_RDWR)
        os.close(opened.fd)
        opened.fd = fd
        return opened.status()

    def release(self, slot: int) -> bytes:
        content = self.content(slot)
        self._open.pop(slot).close()
        return content

    def _take(self) -> bytes:
        path = os.path.join(self._files, b"%d" % self._next)
        self._next = (self._next + 1) % self._count
        return path

    def _name(self, number: int) -> bytes:
        return os.path.join(self._made, b"%d" % number)

    def _hold(self, slot: int, fd: int) -> Status:
        self._open[slot] = _Open(fd)
        return self._open[slot].status()

    # -- contents -------------------------------------------------------------------------------------------------

    def write(self, slot: int, offset: int, data: bytes) -> int:
        return os.pwrite(self._open[slot].fd, data, offset)

    def read(self, slot: int, offset: int, length: int) -> bytes:
        return os.pread(self._open[slot].fd, length, offset)

    def content(self, slot: int) -> bytes:
        return os.pread(self._open[slot].fd, 2 * _MOST_BYTES, 0)

    def append(self, slot: int, data: bytes) -> int:
        """Through another open file with O_APPEND."""
        fd = os.open(f"/proc/self/fd/{self._open[slot].fd}", os.O_WRONLY | os.O_APPEND)
        try:
            # What would go on for ever is cut, as the other operations cannot pass this size.
            return os.write(fd, data) if os.fstat(fd).st_size < _MOST_BYTES else 0
        finally:
            os.close(fd)

    def truncate(self, slot: int, size: int) -> None:
        os.ftruncate(self._open[slot].fd, size)

    def allocate(self, slot: int, mode: int, offset: int, length: int) -> None:
        fallocate(self._open[slot].fd, mode, offset, length)

    def copy(self, slot: int, other: int, source: int, target: int, length: int) -> int:
        return os.copy_file_range(self._open[slot].fd, self._open[other].fd, length, source, target)

    def sync(self, slot: int) -> None:
        os.fsync(self._open[slot].fd)

    # -- mappings -------------------------------------------------------------------------------------------------

    def map(self, slot: int) -> int:
        """Another shared mapping of all that the file has now; the oldest of more than two ends."""
        opened = self._open[slot]
        size = os.fstat(opened.fd).st_size
        if size == 0:
            return 0
        opened.maps.append(mmap.mmap(opened.fd, size))
        if len(opened.maps) > 2:
            opened.maps.pop(0).close()
        return size

    def map_write(self, slot: int, offset: int, data: bytes) -> int:
        mapped, end = self._mapped(slot, offset, len(data))
        if mapped is None:
            return 0
        mapped[offset:end] = data[: end - offset]
        return end - offset

    def map_read(self, slot: int, offset: int, length: int) -> bytes:
        mapped, end = self._mapped(slot, offset, length)
        return b"" if mapped is None else mapped[offset:end]

    def map_sync(self, slot: int) -> None:
        for mapped in self._open[slot].maps:
            mapped.flush()

    def map_privately(self, slot: int, offset: int, data: bytes) -> tuple[bytes, bytes]:
        """A change in a private mapping is seen there, and not in the file."""
        fd = self._open[slot].fd
        size = os.fstat(fd).st_size
        if size <= offset:
            return b"", b""
        with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            end = min(size, offset + len(data))
            mapped[offset:end] = data[: end - offset]
            return mapped[offset:end], os.pread(fd, end - offset, offset)

    def _mapped(self, slot: int, offset: int, length: int) -> tuple[mmap.mmap | None, int]:
        """A mapping that reaches ``offset``, and where to stop: behind the end of the file there are no pages (SIGBUS)."""
        opened = self._open[slot]
        size = os.fstat(opened.fd).st_size
        for mapped in opened.maps:
            end = min(len(mapped), size, offset + length)
            if end > offset:
                return mapped, end
        return None, offset

    # -- attributes -----------------------------------------------------------------------------------------------

    def status(self, slot: int) -> Status:
        return self._open[slot].status()

    def chmod(self, slot: int, mode: int) -> None:
        os.fchmod(self._open[slot].fd, mode)

    def chown(self, slot: int, uid: int, gid: int) -> None:
        os.fchown(self._open[slot].fd, uid, gid)

    def utime(self, slot: int, seconds: int) -> Status:
        os.utime(self._open[slot].fd, ns=(_LONG_AGO_NS, _LONG_AGO_NS + seconds * 10**9 + 123))
        return shared(os.fstat(self._open[slot].fd))

    def setxattr(self, slot: int, value: bytes) -> bytes:
        os.setxattr(self._open[slot].fd, "user.load", value)
        return os.getxattr(self._open[slot].fd, "user.load")
