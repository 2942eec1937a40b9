"""Files of the layers that are open for reading while somebody else changes them.

With passthrough such a descriptor may go on reading what the file was before (docs/deviations.md, reader-keeps-lower-data): one
of the contents that the file has had since, and whole.  Otherwise, and in a plain directory, it reads what the file is now.
"""

from __future__ import annotations

import mmap
import os
import random
from dataclasses import dataclass
from pathlib import Path

from tests.differential.player import Operation

SLOTS = 6
_MOST_BYTES = 100_000
_MOST_VERSIONS = 20


@dataclass
class _Reader:
    path: bytes
    fd: int
    mapped: mmap.mmap | None
    versions: list[bytes]
    """What the file has held since it was opened, the present content last."""


class ReadersWork:
    """Takes the files of ``read`` in turn.  ``may_lag``: those open for reading may show what a file was before."""

    def __init__(self, top: Path, may_lag: bool) -> None:
        self._directory = os.fsencode(top / "read")
        self._count = len(os.listdir(self._directory))
        self._next = 0
        self._may_lag = may_lag
        self._readers: dict[int, _Reader] = {}

    def draw(self, dice: random.Random) -> list[Operation]:
        slot = dice.randrange(SLOTS)
        if slot not in self._readers:
            return [Operation("open", (slot,))]
        if len(self._readers[slot].versions) > _MOST_VERSIONS or dice.random() < 0.03:
            return [Operation("close", (slot,))]
        if dice.random() < 0.3:
            data = dice.randbytes(dice.randint(1, 5000))
            return [Operation("change", (slot, dice.randrange(_MOST_BYTES), data))]
        return [Operation(dice.choice(("read", "read", "read_mapping")), (slot,))]

    def end(self) -> None:
        while self._readers:
            self._close(self._readers.popitem()[1])

    def open(self, slot: int) -> bytes:
        path = os.path.join(self._directory, b"%d" % self._next)
        self._next = (self._next + 1) % self._count
        fd = os.open(path, os.O_RDONLY)
        content = os.pread(fd, 2 * _MOST_BYTES, 0)
        mapped = mmap.mmap(fd, len(content), prot=mmap.PROT_READ) if content else None
        self._readers[slot] = _Reader(path, fd, mapped, [content])
        return content

    def change(self, slot: int, offset: int, data: bytes) -> bytes:
        """Write through a descriptor of its own, and read through another one what the file is then."""
        reader = self._readers[slot]
        fd = os.open(reader.path, os.O_WRONLY)
        try:
            os.pwrite(fd, data, offset)
        finally:
            os.close(fd)
        content = self._now(reader)
        reader.versions.append(content)
        return content

    def read(self, slot: int) -> str:
        reader = self._readers[slot]
        return self._judge(reader, os.pread(reader.fd, 2 * _MOST_BYTES, 0), reader.versions)

    def read_mapping(self, slot: int) -> str:
        """Files only grow here, so all that was mapped is there still."""
        reader = self._readers[slot]
        if reader.mapped is None:
            return ""
        length = len(reader.mapped)
        return self._judge(reader, reader.mapped[:], [version[:length] for version in reader.versions])

    def close(self, slot: int) -> bytes:
        reader = self._readers.pop(slot)
        self._close(reader)
        return self._now(reader)

    def _judge(self, reader: _Reader, found: bytes, versions: list[bytes]) -> str:
        """Empty if it is right: then two directories agree, however far one lags behind."""
        allowed = versions if self._may_lag else versions[-1:]
        if found in allowed:
            return ""
        return f"{os.fsdecode(reader.path)}: {len(found)} bytes that the file never held, of {[len(each) for each in allowed]}"

    def _now(self, reader: _Reader) -> bytes:
        with open(reader.path, "rb") as file:
            return file.read()

    def _close(self, reader: _Reader) -> None:
        if reader.mapped is not None:
            reader.mapped.close()
        os.close(reader.fd)
