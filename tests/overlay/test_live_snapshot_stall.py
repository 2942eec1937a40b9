"""How long requests wait for a snapshot while a large file is open for writing.

``python -m tests.overlay.test_live_snapshot_stall MIB DIRECTORY`` prints the figures of docs/snapshots.md; a test only looks that
all goes on.  One program has the file open (with passthrough the kernel writes to it by itself) and writes a few pages now
and then; another asks for names that are not there, which the daemon must answer.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mounts import DIRECT, DIRECT_CACHED, UnionfsBackend, run_unionfs
from unionfs.mounter.snapshots import take_snapshot


class Figures(NamedTuple):
    """Seconds: the whole command, and the longest that a request or a write had to wait; and the layer that was made."""

    command: float
    longest_request: float
    longest_write: float
    layer: Path


def measure(top: Path, backend: UnionfsBackend, size: int, writes: bool) -> Figures:
    """Mount, take a snapshot while both programs are at work, unmount."""
    merged = top / "merged"
    for name in ("lower", "upper", "merged"):
        (top / name).mkdir()
    run_unionfs(["mount", *backend.arguments, "-l", top / "lower", "-u", top / "upper", merged])
    try:
        with (merged / "large").open("w+b", buffering=0) as file:
            block = random.Random(1).randbytes(1 << 20)  # noqa: S311  no secret
            for _ in range(size >> 20):
                file.write(block)
            os.fsync(file.fileno())
            return _take(merged, file.fileno(), size, writes)
    finally:
        backend.umount(merged)


def _take(merged: Path, fd: int, size: int, writes: bool) -> Figures:
    stop = threading.Event()
    longest = [0.0, 0.0]
    failures: list[BaseException] = []

    def repeat(number: int, pause: float, step: object) -> None:
        assert callable(step)
        try:
            while not stop.is_set():
                start = time.monotonic()
                step()
                longest[number] = max(longest[number], time.monotonic() - start)
                stop.wait(pause)
        except BaseException as error:
            failures.append(error)

    count = iter(range(1 << 40))
    choose = random.Random(2)  # noqa: S311  no secret
    ask = lambda: (merged / f"absent{next(count)}").exists()  # noqa: E731
    write = lambda: os.pwrite(fd, b"changed", choose.randrange(size))  # noqa: E731
    threads = [threading.Thread(target=repeat, args=(0, 0.001, ask))]
    if writes:
        threads.append(threading.Thread(target=repeat, args=(1, 0.02, write)))
    for thread in threads:
        thread.start()
    start = time.monotonic()
    taken = take_snapshot(merged, None)
    command = time.monotonic() - start
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    return Figures(command, longest[0], longest[1], Path(taken.layer))


@pytest.mark.parametrize("backend", [DIRECT, DIRECT_CACHED], ids=lambda backend: backend.name)
@pytest.mark.parametrize("writes", [False, True], ids=["idle", "writing"])
def test_programs_go_on_during_a_snapshot_of_an_open_file(tmp_path: Path, backend: UnionfsBackend, writes: bool) -> None:
    figures = measure(tmp_path, backend, 4 << 20, writes)
    assert (figures.layer / "large").stat().st_size == 4 << 20
    if backend is DIRECT:
        assert (tmp_path / "upper/large").stat().st_size == 4 << 20


if __name__ == "__main__":
    for is_writing in (False, True):
        with tempfile.TemporaryDirectory(dir=sys.argv[2]) as scratch:
            found = measure(Path(scratch), DIRECT, int(sys.argv[1]) << 20, is_writing)
            print("writing" if is_writing else "idle", *(f"{value * 1000:.0f} ms" for value in found[:3]))
