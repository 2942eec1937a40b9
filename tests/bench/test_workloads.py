"""Each workload really does its work, and would be found out if it did not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.made_up import workloads
from unionfs.bench.corpora import Corpora
from unionfs.bench.daemon_figures import measure_daemon
from unionfs.bench.measurement import Measurement, measure
from unionfs.bench.systems import SYSTEMS, System
from unionfs.bench.workload import Place, Workload
from unionfs.bench.workloads import ALL, copy_up, data, lookup, many_layers, names, small_files, trees
from unionfs.bench.workspace import Workspace

LIMIT = 60.0

OURS: tuple[Workload, ...] = tuple(
    workload for module in (copy_up, data, lookup, many_layers, names, small_files, trees) for workload in module.WORKLOADS
)


def system_named(name: str) -> System:
    return next(system for system in SYSTEMS if system.name == name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace that the cases share, so that input data is made once; each case leaves nothing else in it."""
    top = tmp_path_factory.mktemp("bench")
    corpora = top / "corpora"
    corpora.mkdir()
    yield Workspace(top, "as it comes", Corpora(corpora, scale=0.01))
    assert [entry.name for entry in top.iterdir()] == ["corpora"]


def measured(workload: Workload, system: System, place: Workspace) -> Measurement:
    return measure(workload, system, 0, place.new_place(), place.corpora, LIMIT)


class WithoutRun:
    """A workload that is prepared and checked, and not done."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.name, self.title, self.group, self.requires = workload.name, workload.title, workload.group, workload.requires

    def layers(self, corpora: Corpora) -> list[Path]:
        return self.workload.layers(corpora)

    def prepare(self, place: Place) -> None:
        self.workload.prepare(place)

    def run(self, place: Place) -> None:
        pass

    def check(self, place: Place) -> None:
        self.workload.check(place)


CASES = [
    pytest.param(workload, system, id=f"{workload.name}-{system}")
    for workload in OURS
    for system in ("plain", "kernel")
    if workload.group != "layers" or system == "kernel"  # a plain directory is not measured with many layers
]


@pytest.mark.parametrize(("workload", "system"), CASES)
def test_workload_does_what_it_checks(workload: Workload, system: str, place: Workspace) -> None:
    result = measured(workload, system_named(system), place)
    assert result.failure is None
    assert result.seconds is not None


@pytest.mark.parametrize("workload", OURS, ids=lambda workload: workload.name)
def test_check_notices_that_nothing_was_done(workload: Workload, place: Workspace) -> None:
    result = measured(WithoutRun(workload), system_named("kernel"), place)
    assert result.failure is not None
    assert result.failure.startswith("wrong result: ")
    assert result.seconds is None


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_system_shows_and_takes_what_a_union_does(system: System, place: Workspace) -> None:
    assert system.missing_program() is None
    results = [measured(workload, system, place) for workload in workloads("walk-cold", "copy-up-small")]
    assert [result.failure for result in results] == [None, None]
    assert (results[0].mount_seconds is not None) == system.mounts
    assert (results[0].daemon_cpu is not None) == (system.name not in ("plain", "kernel"))


@pytest.mark.parametrize("system", ["fuse-overlayfs", "direct", "pyfuse3"])
def test_daemon_has_memory(system: str, place: Workspace) -> None:
    figures = measure_daemon(system_named(system), place.new_place(), place.corpora, LIMIT, idle_seconds=0.01)
    assert figures is not None
    assert figures.failure is None
    assert figures.rss is not None
    assert figures.pss is not None
    assert figures.rss >= figures.pss > 0


def test_kernel_has_no_daemon(place: Workspace) -> None:
    assert measure_daemon(system_named("kernel"), place.new_place(), place.corpora, LIMIT, idle_seconds=0.01) is None


def test_names_and_titles_are_unique() -> None:
    assert len({workload.name for workload in ALL}) == len({workload.title for workload in ALL}) == len(ALL)


def test_groups_are_together() -> None:
    groups = [workload.group for workload in ALL]
    changes = sum(before != after for before, after in itertools.pairwise(groups))
    assert changes == len(set(groups)) - 1
