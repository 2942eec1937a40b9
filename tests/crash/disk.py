"""A filesystem on a disk that loses its power: what is written to it is recorded, and it can be had as it was at any moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.loop import loop_device
from tests.crash.recorder import NAME, Write, read_log, read_writes
from tests.mounts import is_mounted
from unionfs.linux.mount import mount, umount
from unionfs.linux.syncfs import syncfs
from unionfs.overlay.data_copy import Reflinks, copy_data

_DEADLINE = 30.0
_POLL = 0.005
_START_SYNC, _WAIT_SYNC = 0x80089418, 0x40089416


class Kind(NamedTuple):
    """A filesystem: its size in MiB, how it is made, options of mount(8)."""

    name: str
    size: int
    make: tuple[str, ...]
    options: str = ""


EXT4 = Kind("ext4", 64, ("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4"))
XFS = Kind("xfs", 320, ("mkfs.xfs", "-q", "-K"), "nouuid")
BTRFS = Kind("btrfs", 128, ("mkfs.btrfs", "-q", "-K", "-m", "single"), "nodiscard")
KINDS = {kind.name: kind for kind in (EXT4, XFS, BTRFS)}


class Disk:
    """``directory`` is where it is mounted."""

    def __init__(self, top: Path, kind: Kind) -> None:
        """Make it, under ``top``, which is a new directory on a filesystem in memory or one that knows holes."""
        self._kind = kind
        self._image, self._log, self._tap = top / "image", top / "log", top / "tap"
        self.directory = top / "mounted"
        for directory in (self._tap, self.directory):
            directory.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(kind.size << 20)
        subprocess.run([*kind.make, self._image], check=True, stdout=subprocess.DEVNULL)
        self._first = top / "first"
        _copy(self._image, self._first)
        self._past = _Past(self._first, self._log)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Mounted, with all writes recorded; unmounted at the end."""
        command: list[str | Path] = [sys.executable, "-m", "tests.crash.recorder", self._tap, self._log, self._image]
        with subprocess.Popen(command) as recorder:
            try:
                _wait_for(self._tap, recorder)
                with _mounted(self._kind, self._tap / os.fsdecode(NAME), self.directory):
                    yield
            finally:
                _umount(self._tap)

    def remove(self) -> None:
        """It is needed no more."""
        shutil.rmtree(self.directory.parent)

    def position(self) -> int:
        """How much was written until now; a moment to give to `images`."""
        return self._log.stat().st_size

    def commit(self) -> None:
        """Have the filesystem write out its names and attributes, as it does every few seconds, but no data of files that it was
        not asked for."""
        fd = os.open(self.directory / ".tick", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, os.urandom(8), 0)
            if self._kind is BTRFS:
                transaction = bytearray(8)
                fcntl.ioctl(fd, _START_SYNC, transaction)
                fcntl.ioctl(fd, _WAIT_SYNC, transaction)
            else:
                os.fsync(fd)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Have everything written out."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def log(self) -> list[Write]:
        """All that was written."""
        return list(read_log(self._log))

    @contextlib.contextmanager
    def as_of(self, position: int, more: Iterable[Write] = ()) -> Iterator[None]:
        """Mounted, when all has come to the disk that was written until ``position``, and ``more`` of what was written later.
        What is done to it then is lost."""
        self._past.advance(position)
        copy = self._first.with_name("copy")
        _copy(self._past.image, copy)
        _apply(copy, more)
        try:
            with _mounted(self._kind, copy, self.directory):
                yield
        finally:
            copy.unlink()


class _Past:
    """An image of the disk as it was, which goes forward."""

    def __init__(self, first: Path, log: Path) -> None:
        self.image = first.with_name("past")
        self._first, self._log = first, log
        self._position = -1

    def advance(self, position: int) -> None:
        """To what was written until ``position``."""
        if self._position < 0 or position < self._position:
            _copy(self._first, self.image)
            self._position = 0
        with self._log.open("rb") as log:
            log.seek(self._position)
            _apply(self.image, itertools.takewhile(lambda write: write.end <= position, read_writes(log)))
        self._position = position


def _apply(image: Path, writes: Iterable[Write]) -> None:
    with image.open("r+b") as file:
        for write in writes:
            if write.data is not None:
                file.seek(write.offset)
                file.write(write.data)


@contextlib.contextmanager
def _mounted(kind: Kind, image: Path, directory: Path) -> Iterator[None]:
    with loop_device(image) as device:
        mount(os.fsencode(device), os.fsencode(directory), kind.name.encode(), 0, kind.options.encode())
    try:
        yield
    finally:
        _umount(directory)


def _umount(directory: Path) -> None:
    """A loop device lets go of its file a moment after what was mounted from it is gone."""
    deadline = time.monotonic() + _DEADLINE
    while True:
        try:
            return umount(os.fsencode(directory), 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        assert time.monotonic() < deadline, f"{directory} stays in use"
        time.sleep(_POLL)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        copy_data(old.fileno(), new.fileno(), os.fstat(old.fileno()).st_size, Reflinks())


def _wait_for(mountpoint: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not is_mounted(mountpoint):
        assert server.poll() is None, "the recorder has ended"
        assert time.monotonic() < deadline, "the recorder does not mount"
        time.sleep(_POLL)
