"""What a mount consists of while no worker serves it: the things that the supervisor holds, and that another program can go on
holding in its place."""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import unionfs
from unionfs.fuse.negotiation import Negotiated
from unionfs.fuse.session import SessionSettings
from unionfs.journal.storage import PROGRESS, JournalFile
from unionfs.mounter.registry import Registration
from unionfs.mounter.request import MountRequest

RESUME = "unionfs.mounter.resume"
"""The module that goes on, as a program."""


@dataclass(frozen=True)
class Held:
    """A mount without its worker.  All of it can be pickled.

    Attributes:
        request: as it was checked and settled, its lowers without the snapshots of the upper.
        is_limited: whether the upper's project has a limit that must be set anew.
        own_work: whether the user named no work directory.
        locked_upper: (device, inode number) of the upper that was locked at the mount.
        settings, negotiated: of the session.
        fd, listener_fd, journal_fd: of the connection, the control socket, and the journal.
        kept: all descriptors that outlive a worker.
        journal_format: `unionfs.journal.storage.FORMAT` of who made the mount.
        log, level: where the log is (None: standard error), and of which messages.
    """

    request: MountRequest
    is_limited: bool
    own_work: bool
    locked_upper: tuple[int, int] | None
    registration: Registration
    settings: SessionSettings
    negotiated: Negotiated
    fd: int
    listener_fd: int
    journal_fd: int
    kept: frozenset[int]
    journal_format: int
    log: Path | None
    level: int

    @property
    def mountpoint(self) -> Path:
        """Where it is mounted."""
        return self.request.mountpoint

    def keeping(self, *descriptors: int) -> Held:
        """The same with more that outlives a worker."""
        return dataclasses.replace(self, kept=self.kept.union(descriptors))


@dataclass(frozen=True)
class Handover:
    """What one program tells the next that holds the mount in its place."""

    held: Held
    restarts: int
    last_end: str | None

    def write(self) -> int:
        """A descriptor of its own file that the next program reads it by."""
        fd = os.memfd_create("unionfs-handover")
        with open(fd, "wb", closefd=False) as file:
            pickle.dump(self, file)
        return fd

    @staticmethod
    def read(fd: int) -> Handover:
        """What `write` has written there; nobody but us can have made the file."""
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb", closefd=False) as file:
            handover = pickle.load(file)  # noqa: S301
        assert isinstance(handover, Handover)
        return handover


class Progress:
    """Whether the worker that ended last served new requests: told by the worker, asked by the supervisor."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def make(self) -> None:
        """It does."""
        self._file.numbers[PROGRESS] = 1

    def take(self) -> bool:
        """Whether it did; from now on it is about the next one."""
        made = self._file.numbers[PROGRESS] != 0
        self._file.numbers[PROGRESS] = 0
        return made


def open_descriptors() -> frozenset[int]:
    """All that this process has open."""
    # Among what is listed is what the listing was read by.
    return frozenset(fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd))


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def log_descriptors() -> frozenset[int]:
    """Those that this process's log is open by."""
    streams = [getattr(handler, "stream", None) for handler in logging.getLogger().handlers]
    return frozenset(stream.fileno() for stream in streams if stream is not None)


def close_left_over(held: Held, wanted: set[int]) -> None:
    """Close what a killed worker had open, but for what is ``wanted``."""
    for fd in open_descriptors() - held.kept - log_descriptors() - wanted:
        os.close(fd)


def resume_command(fd: int, *, check: bool = False) -> list[str]:
    """The command line of the program that goes on with what is written in ``fd``; ``check``: that looks whether it could."""
    return [sys.executable, "-P", "-m", RESUME, *(["--check"] if check else []), str(fd)]


def resume_environment() -> dict[str, str]:
    """In which it finds the package where this process has found it."""
    path = [str(Path(unionfs.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def replace_program(held: Held, restarts: int, last_end: str | None) -> None:
    """Become the program that is installed now, which goes on holding the mount.

    Raises:
        OSError: it cannot be started; nothing has changed.
    """
    fd = Handover(held, restarts, last_end).write()
    for kept in (*held.kept, fd):
        os.set_inheritable(kept, True)
    try:
        os.execve(sys.executable, resume_command(fd), resume_environment())  # noqa: S606
    finally:
        os.close(fd)
