"""Measures how long requests take: ``python -m tests.load.probe DIRECTORY``, a client of its own beside a load.

For each line on its standard input it makes, writes, reads, renames, lists and removes files for a while, and prints the median
and the 99th percentile of the times that took as JSON: ``[p50, p99]``, in microseconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

_ROUNDS = 100


def measure(directory: Path) -> tuple[float, float]:
    """Median and 99th percentile, in microseconds, of a few hundred requests."""
    times: list[int] = []

    def timed(call: Callable[[], object]) -> None:
        begun = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - begun)

    for number in range(_ROUNDS):
        # Names that the kernel does not know, so that it has to ask.
        name, other = directory / f"probe-{time.monotonic_ns()}", directory / f"moved-{number}"
        timed(lambda: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))  # noqa: B023 - called at once
        timed(lambda: name.write_bytes(b"probe"))  # noqa: B023
        timed(name.read_bytes)
        timed(lambda: os.rename(name, other))  # noqa: B023
        timed(lambda: os.listdir(directory))
        timed(other.unlink)
    times.sort()
    return times[len(times) // 2] / 1000, times[len(times) * 99 // 100] / 1000


def main(directory: Path) -> None:
    directory.mkdir()
    for _ in sys.stdin:
        print(json.dumps(measure(directory)), flush=True)
    directory.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
