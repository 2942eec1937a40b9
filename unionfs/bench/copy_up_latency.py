"""How long others wait while a big file is copied up."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

from unionfs.bench.corpora import Corpora
from unionfs.bench.errors import BenchError, WrongResultError
from unionfs.bench.isolated import run_isolated
from unionfs.bench.mounting import abort, mounted
from unionfs.bench.open_loop import Span, percentile, send
from unionfs.bench.systems import Layout, System
from unionfs.bench.workload import Place, expect
from unionfs.bench.workloads import small_tree
from unionfs.bench.workloads.copy_up import BIG, BigFile
from unionfs.bench.workloads.lookup import count_absent

NAME = "copy-up-latency"
"""What ``--only`` calls this figure."""

_ENOUGH = 100
"""Requests: of fewer there is no 99th percentile."""
_KINDS = 3
"""Of requests: see `requests_in`."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long requests took that overlapped the copy-up, how many there were, and how long the copy-up itself took."""

    median_seconds: float
    p99_seconds: float
    longest_seconds: float
    requests: int
    copy_up_seconds: float


@dataclass(frozen=True, slots=True)
class CopyUpLatency:
    """What one measurement found.  ``latency`` is None where ``failure`` tells what went wrong."""

    system: str
    round: int
    latency: Latency | None = None
    failure: str | None = None


def over_rounds(latencies: Sequence[Latency]) -> Latency:
    """Those of several rounds in one: medians, but the longest request and the number of requests of all."""
    return Latency(
        median(latency.median_seconds for latency in latencies),
        median(latency.p99_seconds for latency in latencies),
        max(latency.longest_seconds for latency in latencies),
        sum(latency.requests for latency in latencies),
        median(latency.copy_up_seconds for latency in latencies),
    )


def measure_copy_up_latency(
    system: System, round_number: int, directory: Path, corpora: Corpora, limit: float
) -> CopyUpLatency | None:
    """Mount a file of 1 GiB and directories of small files in the new ``directory``; one process appends a byte to the big file,
    another one sends requests about small ones.  None if the system is not mounted, so that nothing is copied up."""
    if not system.mounts:
        return None
    result = CopyUpLatency(system.name, round_number)
    layout = Layout(directory)
    try:
        layers = [*BigFile().layers(corpora), *small_tree.layers(corpora)]
        with mounted(system, layers, layout, limit):
            work = _Work(Place(layout.merged, layout.scratch, corpora), layers[0] / BIG, layout.upper / BIG)
            found = run_isolated(work, limit, lambda: abort(layout))
    except (BenchError, OSError) as error:
        return dataclasses.replace(result, failure=str(error).replace(f"{directory}/", ""))
    return dataclasses.replace(result, latency=Latency(**found))


@dataclass(frozen=True, slots=True)
class _Work:
    """``lower`` and ``upper``: where the big file is before the copy-up, and where it is to be afterwards."""

    place: Place
    lower: Path
    upper: Path

    def __call__(self) -> dict[str, Any]:
        try:
            return dataclasses.asdict(self._latency())
        except WrongResultError as error:
            raise BenchError(f"wrong result: {error}") from error

    def _latency(self) -> Latency:
        requests = requests_in(self.place.merged / small_tree.directory_names(self.place.corpora)[0])
        # The first of each kind read the directory and copy it up.
        for request in itertools.islice(requests, _KINDS):
            request()
        lower_before = _state(self.lower)
        copy_up, answered = self._copy_up_and_send(requests)
        BigFile().check(self.place)
        expect(f"size of {BIG} in the upper", os.stat(self.upper).st_size, os.stat(self.lower).st_size + 1)
        expect(f"size and times of {BIG} in its layer", _state(self.lower), lower_before)
        return latency_of(answered, copy_up, self.place.corpora.scaled(_ENOUGH))

    def _copy_up_and_send(self, requests: Iterator[Callable[[], None]]) -> tuple[Span, list[Span]]:
        gc.disable()  # for good: this process does nothing else afterwards
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            future = pool.submit(_copy_up, self.place)
            answered = send(requests, lambda: future.result().until if future.done() else None)
            return future.result(), answered


def _copy_up(place: Place) -> Span:
    since = perf_counter_ns()
    BigFile().run(place)
    return Span(since, perf_counter_ns())


def _state(path: Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def requests_in(directory: Path) -> Iterator[Callable[[], None]]:
    """System calls that no cache of the kernel can answer, in turns: stat of a name that is not there, each time another one;
    creating a file, and unlinking it."""
    for number in itertools.count():
        yield partial(_stat_absent, f"{directory}/absent-{number}")
        path = f"{directory}/new-{number}"
        yield partial(_create, path)
        yield partial(os.unlink, path)


def _stat_absent(path: str) -> None:
    expect("names that are not there", count_absent([path]), 1)


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def latency_of(requests: Sequence[Span], copy_up: Span, enough: int) -> Latency:
    """What those of ``requests`` show that overlapped ``copy_up``.

    Raises:
        BenchError: They are fewer than ``enough``.
    """
    seconds = [request.seconds() for request in requests if request.overlaps(copy_up)]
    if len(seconds) < enough:
        raise BenchError(
            f"{len(seconds)} requests during the copy-up, which took {copy_up.seconds() * 1000:.2f} ms, {enough} needed; "
            "choose a filesystem that does not clone files: --directory DIR"
        )
    return Latency(percentile(seconds, 50), percentile(seconds, 99), max(seconds), len(seconds), copy_up.seconds())
