"""The two parts of the runner inode-bound: ``make DIRECTORY FILES`` and ``watch MERGED FILES``."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes import c_uint64
from multiprocessing.sharedctypes import RawValue
from typing import NamedTuple, NoReturn

FILES_A_DIRECTORY = 1_000
WALKS = 2
SAMPLES = 40
MARGIN = 0.1
"""How many more inodes than the bound there may be, as a part of it: what is to be forgotten is asked for in pieces, and the
kernel's FORGETs come while new inodes do."""
GROWTH = 0.1
"""By how much the daemon may grow from the second quarter of the way to the last one."""
POLL = 0.02
"""Seconds between two looks at how far the walk is."""
STATUS_LIMIT = 60.0


def make(directory: str, files: int) -> None:
    """Files whose sizes are the numbers in their names; they are sparse, so that they take no more memory than their inodes."""
    for first in range(0, files, FILES_A_DIRECTORY):
        path = f"{directory}/directory-{first // FILES_A_DIRECTORY}"
        os.mkdir(path)
        for number in range(first, min(first + FILES_A_DIRECTORY, files)):
            fd = os.open(f"{path}/file-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.ftruncate(fd, number)
            os.close(fd)


def walk(merged: str, files: int, looked_at: c_uint64) -> None:
    """Look at everything `WALKS` times; ``looked_at`` tells the others how far it is.  Ends the process if something is wrong."""
    for number in range(1, WALKS + 1):
        for size, path in stat_all(merged):
            expected = int(path.rpartition("-")[2])
            if size != expected:
                sys.exit(f"inode-bound: {os.path.relpath(path, merged)}: {size} bytes instead of {expected}")
            looked_at.value += 1
        found = looked_at.value - (number - 1) * files
        if found != files:
            sys.exit(f"inode-bound: walk {number} found {found:,} files instead of {files:,}")


def stat_all(merged: str) -> Iterator[tuple[int, str]]:
    """Size and path of every file."""
    with os.scandir(merged) as directories:
        for directory in directories:
            with os.scandir(directory.path) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False).st_size, entry.path


class Sample(NamedTuple):
    """``looked_at``: files so far.  ``inodes``: how many the daemon knows.  ``resident``: its RSS in bytes."""

    looked_at: int
    inodes: int
    resident: int


class Status(NamedTuple):
    """What the daemon says of itself; ``limit``: how many inodes it should know at most."""

    inodes: int
    limit: int
    resident: int


def status(merged: str) -> Status:
    """Ask it."""
    command = ["unionfs", "status", "--json", merged]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STATUS_LIMIT, check=False)
    if done.returncode:
        sys.exit(f"inode-bound: the daemon does not answer: {done.stderr.strip()}")
    answer = json.loads(done.stdout)
    return Status(answer["union"]["inodes"], answer["union"]["inodes_limit"], answer["process"]["resident_bytes"])


def watch(merged: str, files: int) -> list[str]:
    """Walk in another process, print samples and the verdict; what is wrong."""
    limit = status(merged).limit
    if limit == 0:
        refuse("max_inodes=0 is no bound; give another MAX_INODES")
    if files < 2 * limit:
        refuse(f"the bound is {limit:,} inodes; give at least twice as many FILES, or a smaller MAX_INODES")
    looked_at = RawValue(c_uint64, 0)
    walker = multiprocessing.get_context("fork").Process(target=walk, args=(merged, files, looked_at))
    signal.signal(signal.SIGTERM, end)
    try:
        walker.start()
        samples = list(sampled(walker, looked_at, merged, WALKS * files // SAMPLES))
    finally:
        if walker.pid is not None:
            walker.kill()
            walker.join()
    if walker.exitcode != 0:
        return ["the walk did not come to its end"]
    return [*too_many_inodes(samples, limit), *grown(samples, WALKS * files)]


def sampled(walker: multiprocessing.process.BaseProcess, looked_at: c_uint64, merged: str, interval: int) -> Iterator[Sample]:
    """A sample each time when ``walker`` has looked at ``interval`` more files, and one at its end."""
    started = time.monotonic()
    due = interval
    while walker.is_alive():
        walker.join(POLL)
        if looked_at.value < due and walker.is_alive():
            continue
        now = status(merged)
        sample = Sample(looked_at.value, now.inodes, now.resident)
        due = (sample.looked_at // interval + 1) * interval
        seconds = time.monotonic() - started
        print(
            f"{seconds:7.1f} s: {sample.looked_at:,} looked at, {sample.inodes:,} known, RSS {mebibytes(sample.resident)}",
            flush=True,
        )
        yield sample


def too_many_inodes(samples: list[Sample], limit: int) -> Iterator[str]:
    """Print how many there were at most; tell if that is too many."""
    most = max(sample.inodes for sample in samples)
    allowed = round(limit * (1 + MARGIN))
    print(f"inodes known at most: {most:,}; bound {limit:,}, {allowed:,} allowed")
    if most > allowed:
        yield f"{most:,} inodes were known, {allowed:,} are allowed"


def grown(samples: list[Sample], total: int) -> Iterator[str]:
    """Print how large the daemon was in the second and in the last quarter; tell if it has grown."""
    second, last = (mean_resident(samples, total * (quarter - 1) // 4, total * quarter // 4) for quarter in (2, 4))
    if second is None or last is None:
        yield "too few samples to compare the daemon's size; give more FILES"
        return
    growth = last / second - 1
    print(f"RSS in the second quarter {mebibytes(second)}, in the last {mebibytes(last)}: {growth:+.1%}, {GROWTH:+.0%} allowed")
    if growth > GROWTH:
        yield f"the daemon has grown by {growth:.1%}, {GROWTH:.0%} are allowed"


def mean_resident(samples: list[Sample], after: int, until: int) -> float | None:
    """Over the samples taken when more than ``after`` files and at most ``until`` had been looked at."""
    sizes = [sample.resident for sample in samples if after < sample.looked_at <= until]
    return sum(sizes) / len(sizes) if sizes else None


def mebibytes(size: float) -> str:
    """For people."""
    return f"{size / (1 << 20):.1f} MiB"


def refuse(why: str) -> NoReturn:
    """End without a verdict."""
    print(f"inode-bound: {why}", file=sys.stderr)
    raise SystemExit(2)


def end(_number: int, _frame: object) -> NoReturn:
    """Through every ``finally``."""
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """What the runner calls."""
    part, directory, files = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if part == "make":
        make(directory, files)
        return
    wrong = watch(directory, files)
    for line in wrong:
        print(f"failed: {line}")
    if not wrong:
        print(f"passed: {WALKS} walks of {files:,} files")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
