"""What a union takes while a load runs on it, sampled again and again, and whether that stays flat."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from tests.load.progress import Progress
from tests.load.served import Served
from unionfs.mounter.errors import DaemonError

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Sample:
    """One look."""

    rss_mib: float
    """Memory of all processes that serve the mount."""
    pss_mib: float
    """The same, with what they share counted once."""
    open_files: float
    """Of both processes, which share them, but for those that the union keeps open as long as there is room: how many these are
    goes with what was used since the worker began, up to a bound (`unionfs.overlay.fd_pool`)."""
    inodes: float
    """How many the union knows."""
    p50_us: float
    """How long half of the requests of the probe took at most."""
    p99_us: float


TOLERANCES: dict[str, tuple[float, float]] = {
    "rss_mib": (1.10, 8),
    "pss_mib": (1.10, 8),
    "open_files": (1.10, 32),
    "inodes": (1.10, 500),
    "p50_us": (1.5, 200),
    "p99_us": (2.0, 5000),
}
"""What the last third may be, by figure: the second third times the first number, plus the second one."""


class Sampler:
    """A `tests.load.disturbances.Disturbance` that disturbs little: takes a sample every so many seconds."""

    name = "samples"

    def __init__(self, served: Served, directory: Path, seconds: float) -> None:
        """``directory``: one in the union that is not there yet, for the probe."""
        self._served, self._seconds = served, seconds
        self._directory = directory
        self.samples: list[Sample] = []

    def run(self, progress: Progress) -> None:
        command: list[str | Path] = [sys.executable, "-m", "tests.load.probe", self._directory]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True) as probe:
            try:
                while progress.pause(self._seconds):
                    self._sample(probe)
                _, _ = probe.communicate()
            finally:
                probe.kill()
        if probe.returncode:
            raise AssertionError(f"the probe failed: exit status {probe.returncode}")

    def figures(self) -> dict[str, int]:
        return {self.name: len(self.samples)}

    def _sample(self, probe: subprocess.Popen[str]) -> None:
        assert probe.stdin is not None
        assert probe.stdout is not None
        print(file=probe.stdin, flush=True)
        p50, p99 = json.loads(probe.stdout.readline())
        try:
            taken = [taken_by(pid) for pid in self._served.processes()]
            union = self._served.status()["union"]
        except (FileNotFoundError, ProcessLookupError, DaemonError):
            return  # one was killed just now: what the others take says nothing
        self.samples.append(sample_of(taken, union, p50, p99))


def sample_of(taken: list[tuple[int, int, int]], union: dict[str, int], p50: float, p99: float) -> Sample:
    """``taken``: of each process (see `taken_by`); ``union``: its statistics."""
    rss, pss, files = zip(*taken, strict=True)
    return Sample(sum(rss) / 1024, sum(pss) / 1024, max(files) - union["open_files"], union["inodes"], p50, p99)


@dataclass(frozen=True)
class Trend:
    """How a figure was in the second third of the samples, and in the last."""

    figure: str
    second_third: float
    last_third: float

    @property
    def is_flat(self) -> bool:
        """Whether it has not grown, but for what is declared in `TOLERANCES`."""
        factor, more = TOLERANCES[self.figure]
        return self.last_third <= self.second_third * factor + more


def trends(samples: list[Sample]) -> list[Trend]:
    """The medians of the thirds; none for fewer than three samples."""
    third = len(samples) // 3
    if not third:
        return []
    second, last = samples[-2 * third : -third], samples[-third:]

    def median(part: list[Sample], figure: str) -> float:
        values: list[float] = [getattr(sample, figure) for sample in part]
        return statistics.median(values)

    return [Trend(each.name, median(second, each.name), median(last, each.name)) for each in fields(Sample)]


def taken_by(pid: int) -> tuple[int, int, int]:
    """KiB resident, KiB in proportion to who shares them, open files.

    Raises:
        FileNotFoundError, ProcessLookupError: there is no such process.
    """
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    sizes = {row[0]: int(row[1]) for row in rows}
    return sizes["Rss:"], sizes["Pss:"], len(os.listdir(f"/proc/{pid}/fd"))
