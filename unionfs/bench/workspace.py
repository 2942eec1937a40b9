"""The directory that a run of the benchmark works in."""

from __future__ import annotations

import contextlib
import mmap
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from unionfs.bench.corpora import Corpora
from unionfs.bench.errors import BenchError, EndedError
from unionfs.bench.mounting import force_umount, kill_daemons
from unionfs.bench.program import last_line

_GIB = 1 << 30
NEEDED = 6 * _GIB
"""Bytes that the largest measurement takes at scale 1: the corpora, a copy-up of 1 GiB, and the copy for the plain directory."""

_TOUCHED = 8 * _GIB
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@dataclass
class Workspace:
    """``directory`` is private and removed at the end.  ``filesystem`` says what it is on: "tmpfs", or as the user chose."""

    directory: Path
    filesystem: str
    corpora: Corpora
    _count: int = field(default=0, init=False)

    def new_place(self) -> Path:
        """A path for one measurement: below ``directory``, never used before, not made yet."""
        self._count += 1
        return self.directory / str(self._count)


@contextlib.contextmanager
def workspace(chosen: Path | None, scale: float) -> Iterator[Workspace]:
    """A directory below ``chosen``, or on a tmpfs of its own if that is None.

    At the end of the block everything in it is unmounted and removed, also on ctrl-C, SIGTERM and SIGHUP.

    Raises:
        BenchError: Too little space or memory; no tmpfs can be mounted.
        EndedError: In the block: one of the signals came.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals_raise())
        top = Path(tempfile.mkdtemp(prefix="unionfs-bench-", dir=chosen)).resolve()
        stack.callback(_remove, top)
        if chosen is None:
            _check_space("memory", available_memory(), scale, "free some, or give a directory on a disk: --directory DIR")
            _mount_tmpfs(top)
        else:
            _check_space(str(chosen), shutil.disk_usage(top).free, scale, "make room, or choose another directory")
        corpora = top / "corpora"
        corpora.mkdir()
        yield Workspace(top, "tmpfs" if chosen is None else f"directory {chosen}", Corpora(corpora, scale))


def touch_memory(scale: float) -> None:
    """Use half of the free memory once (8 GiB at most): a virtual machine gets it from its host at the first use, and whoever is
    measured then would pay."""
    size = min(available_memory() // 2, int(_TOUCHED * scale))
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


def available_memory() -> int:
    """Bytes that can be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):  # proc_meminfo(5)
            return int(line.split()[1]) * 1024
    raise BenchError("/proc/meminfo: has no MemAvailable; Linux 3.14 or later is needed")


def _check_space(thing: str, free: int, scale: float, remedy: str) -> None:
    needed = int(NEEDED * scale)
    if free < needed:
        raise BenchError(f"{thing}: {free / _GIB:.1f} GiB free, {needed / _GIB:.1f} GiB needed; {remedy}")


def _mount_tmpfs(directory: Path) -> None:
    # By default a tmpfs takes half of the memory, and one inode for each page of that half.
    options = f"size={available_memory() * 9 // 10},nr_inodes=0,mode=0755"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "unionfs-bench", directory], capture_output=True, check=False)
    if done.returncode:
        raise BenchError(f"tmpfs: {last_line(done.stderr)}; run as root, or give a directory: --directory DIR")


def _remove(directory: Path) -> None:
    # A second ctrl-C must not leave half of it.
    for number in (signal.SIGINT, *_ENDING):
        signal.signal(number, signal.SIG_IGN)
    kill_daemons(directory)
    force_umount(directory)
    shutil.rmtree(directory)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    def end(number: int, _frame: FrameType | None) -> None:
        raise EndedError(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    for number in _ENDING:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
