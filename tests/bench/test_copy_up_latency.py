"""How long others wait during a copy-up: measured on real mounts, and found out if there was no copy-up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounts import mounts_under
from unionfs.bench import copy_up_latency
from unionfs.bench.copy_up_latency import CopyUpLatency, Latency, latency_of, measure_copy_up_latency, requests_in
from unionfs.bench.corpora import Corpora
from unionfs.bench.errors import BenchError
from unionfs.bench.open_loop import Span
from unionfs.bench.runner import Plan, run_plan
from unionfs.bench.systems import SYSTEMS, System
from unionfs.bench.workload import Place
from unionfs.bench.workloads.copy_up import BIG, BigFile
from unionfs.bench.workspace import Workspace

LIMIT = 60.0
MILLISECOND = 1_000_000
"""In nanoseconds."""

PLAIN, KERNEL = SYSTEMS[:2]
MOUNTED = [system for system in SYSTEMS if system.mounts]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    """Large enough for a copy-up during which requests are sure to be due."""
    return Corpora(tmp_path_factory.mktemp("corpora"), scale=0.05)


Measured = Callable[[System], CopyUpLatency | None]


@pytest.fixture
def measured(tmp_path: Path, corpora: Corpora) -> Measured:
    def measure(system: System) -> CopyUpLatency | None:
        found = measure_copy_up_latency(system, 0, tmp_path / "place", corpora, LIMIT)
        assert list(mounts_under(tmp_path)) == []
        assert list(tmp_path.iterdir()) == []
        return found

    return measure


@pytest.mark.parametrize("system", MOUNTED, ids=lambda system: system.name)
def test_every_union_answers_during_a_copy_up(system: System, measured: Measured) -> None:
    found = measured(system)
    assert found is not None
    assert found.failure is None
    assert found.latency is not None
    assert 0 < found.latency.median_seconds <= found.latency.p99_seconds <= found.latency.longest_seconds
    assert found.latency.requests >= 5


def test_plain_directory_copies_nothing_up(measured: Measured) -> None:
    assert measured(PLAIN) is None


def failure_of(found: CopyUpLatency | None) -> str:
    assert found is not None
    assert found.latency is None
    assert found.failure is not None
    return found.failure


def test_copy_up_that_did_not_happen_is_noticed(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BigFile, "run", lambda _self, _place: None)
    assert failure_of(measured(KERNEL)).startswith(f"wrong result: size of {BIG}: ")


def test_changed_lower_is_noticed(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    append = BigFile.run

    def append_and_touch_the_lower(big: BigFile, place: Place) -> None:
        append(big, place)
        os.utime(big.layers(place.corpora)[0] / BIG)

    monkeypatch.setattr(BigFile, "run", append_and_touch_the_lower)
    assert failure_of(measured(KERNEL)).startswith(f"wrong result: size and times of {BIG} in its layer: ")


def test_error_of_the_process_that_copies_up_is_told(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BigFile, "run", lambda _self, place: os.stat(place.merged / "absent"))
    assert failure_of(measured(KERNEL)) == "No such file or directory: merged/absent"


def test_request_with_a_wrong_answer_is_told(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_up_latency, "count_absent", lambda _paths: 0)
    assert failure_of(measured(KERNEL)).startswith("wrong result: names that are not there: ")


def test_too_few_requests_are_a_failure(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_up_latency, "_ENOUGH", 1 << 40)
    failure = failure_of(measured(KERNEL))
    assert " requests during the copy-up, " in failure
    assert failure.endswith(" needed; choose a filesystem that does not clone files: --directory DIR")


def test_requests_of_other_times_do_not_count() -> None:
    copy_up = Span(10 * MILLISECOND, 20 * MILLISECOND)
    # Before it, into it, within it, out of it, after it.
    times = [(0, 9), (9, 11), (12, 15), (19, 27), (21, 90)]
    requests = [Span(since * MILLISECOND, until * MILLISECOND) for since, until in times]
    assert latency_of(requests, copy_up, enough=3) == Latency(0.003, 0.008, 0.008, 3, 0.010)
    with pytest.raises(BenchError, match=r"^3 requests during the copy-up, which took 10\.00 ms, 4 needed; "):
        latency_of(requests, copy_up, enough=4)


def test_no_request_is_sent_twice_and_nothing_is_left(tmp_path: Path) -> None:
    requests = requests_in(tmp_path)
    names = set()
    for _ in range(3):
        stat_absent, create, unlink = (next(requests) for _ in range(3))
        stat_absent()
        create()
        names |= set(os.listdir(tmp_path))
        unlink()
    assert len(names) == 3
    assert os.listdir(tmp_path) == []


def test_it_is_measured_in_each_round_and_not_again_after_a_failure(tmp_path: Path, corpora: Corpora) -> None:
    broken = System("broken", "broken", (), lambda _layout, _layers: [["false"]])
    plan = Plan([], [PLAIN, KERNEL, broken], 2, LIMIT, figures=["copy-up-latency"])
    told: list[tuple[int, str, str]] = []
    results = run_plan(plan, Workspace(tmp_path, "as it comes", corpora), lambda *step: told.append(step))
    assert [(found.system, found.round, found.failure) for found in results.latencies] == [
        ("kernel", 0, None),
        ("broken", 0, "false: exit status 1: it said nothing"),
        ("kernel", 1, None),
    ]
    assert len(told) == plan.steps() == 6
