"""The order in which workers get the tests of a run: the scheduler with workers that only write down what they are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import schedule
from tests.schedule import AHEAD, Schedule, unit_of


class Worker:
    """Does its tests when told to."""

    def __init__(self, name: str, collected: list[str]) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.collected = collected
        self.pending: list[int] = []
        self.done: list[str] = []
        self.shutting_down = False

    def send_runtest_some(self, numbers: list[int]) -> None:
        assert not self.shutting_down
        self.pending += numbers

    def shutdown(self) -> None:
        self.shutting_down = True

    def can_run(self) -> bool:
        """A worker begins a test once it knows the next, or that there is none."""
        return len(self.pending) > 1 or (self.shutting_down and bool(self.pending))

    def run_one(self, scheduler: Schedule) -> None:
        number = self.pending.pop(0)
        self.done.append(self.collected[number])
        scheduler.mark_test_complete(self, number)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "ONE_AT_A_TIME", ("t/machine", "t/quota.py"))
    monkeypatch.setattr(schedule, "TOGETHER", ("t/work",))


def nodeids_of(**files: int) -> list[str]:
    """Node ids of so many tests in each file; ``_`` stands for a slash."""
    return [f"t/{file.replace('_', '/')}.py::test[{n}]" for file, count in files.items() for n in range(count)]


def files(done: list[str]) -> list[str]:
    return list(dict.fromkeys(nodeid.partition("::")[0] for nodeid in done))


def started(*collections: list[str]) -> tuple[Schedule, list[Worker], list[Any]]:
    """A scheduler whose workers have collected; and what it has reported."""
    reported: list[Any] = []
    hook = SimpleNamespace(pytest_collectreport=lambda report: reported.append(report))
    scheduler = Schedule(SimpleNamespace(hook=hook), len(collections))  # type: ignore[arg-type]
    workers = [Worker(f"gw{number}", tests) for number, tests in enumerate(collections)]
    for worker in workers:
        join(scheduler, worker)
    return scheduler, workers, reported


def join(scheduler: Schedule, worker: Worker) -> None:
    scheduler.add_node(worker)  # type: ignore[arg-type]
    scheduler.add_node_collection(worker, worker.collected)  # type: ignore[arg-type]
    if scheduler.collection_is_completed:
        scheduler.schedule()


def run_all(scheduler: Schedule, workers: list[Worker]) -> None:
    """In turns, until nobody can do anything."""
    while able := [worker for worker in workers if worker.can_run()]:
        for worker in able:
            worker.run_one(scheduler)
    assert scheduler.tests_finished
    assert not scheduler.has_pending


def test_unit_is_the_file_or_a_folder_whose_tests_stay_together() -> None:
    assert unit_of("t/a.py::Class::test[x::y/z]") == "t/a.py"
    assert unit_of("t/work/a.py::test") == unit_of("t/work/b.py::test") == "t/work"
    assert unit_of("t/workshop.py::test") == "t/workshop.py"


def test_every_test_is_done_once_and_those_of_a_file_by_one_worker() -> None:
    tests = nodeids_of(a=5, b=1, c=7, machine_x=4, quota=2, work_x=3, work_y=3, z=1)
    scheduler, workers, _ = started(tests, tests)
    run_all(scheduler, workers)
    first, second = (worker.done for worker in workers)
    assert sorted(first + second) == sorted(tests)
    assert not set(files(first)) & set(files(second))
    assert all(worker.shutting_down for worker in workers)


def test_one_worker_does_all_that_is_done_one_at_a_time_and_then_helps() -> None:
    tests = nodeids_of(a=4, b=4, c=4, d=4, machine_x=2, machine_y=2, quota=2)
    scheduler, workers, _ = started(tests, tests)
    run_all(scheduler, workers)
    assert files(workers[0].done) == ["t/machine/x.py", "t/machine/y.py", "t/quota.py", "t/c.py"]
    assert files(workers[1].done) == ["t/a.py", "t/b.py", "t/d.py"]


def test_small_units_are_shared_out() -> None:
    tests = nodeids_of(a=1, b=1, c=1, d=1)
    scheduler, workers, _ = started(tests, tests)
    run_all(scheduler, workers)
    assert [len(worker.done) for worker in workers] == [2, 2]


def test_folder_that_stays_together_comes_before_files() -> None:
    tests = nodeids_of(a=4, machine_x=4, work_x=2, work_y=2)
    scheduler, workers, _ = started(tests, tests)
    run_all(scheduler, workers)
    assert files(workers[1].done) == ["t/work/x.py", "t/work/y.py"]


def test_worker_knows_of_few_tests_ahead() -> None:
    tests = nodeids_of(a=50, b=50)
    scheduler, workers, _ = started(tests, tests)
    for _ in range(20):
        assert [len(worker.pending) for worker in workers] == [AHEAD, AHEAD]
        for worker in workers:
            worker.run_one(scheduler)


def test_worker_without_work_ends() -> None:
    tests = nodeids_of(a=2)
    _, workers, _ = started(tests, tests)
    assert [(len(worker.pending), worker.shutting_down) for worker in workers] == [(2, False), (0, True)]


def test_what_a_dead_worker_left_is_done_by_others_but_what_it_died_of() -> None:
    tests = nodeids_of(a=9, machine_x=6)
    scheduler, workers, _ = started(tests, tests)
    dead, other = workers
    dead.run_one(scheduler)
    assert scheduler.remove_node(dead) == "t/machine/x.py::test[1]"  # type: ignore[arg-type]
    run_all(scheduler, [other])
    assert sorted([*dead.done, "t/machine/x.py::test[1]", *other.done]) == sorted(tests)


def test_worker_that_replaces_the_last_one_does_the_rest() -> None:
    tests = nodeids_of(a=9)
    scheduler, workers, _ = started(tests)
    assert scheduler.remove_node(workers[0]) == "t/a.py::test[0]"  # type: ignore[arg-type]
    assert scheduler.has_pending
    new = Worker("gw1", tests)
    join(scheduler, new)
    run_all(scheduler, [new])
    assert new.done == tests[1:]


def test_worker_that_ended_well_died_of_nothing() -> None:
    tests = nodeids_of(a=2)
    scheduler, workers, _ = started(tests, tests)
    run_all(scheduler, workers)
    assert [scheduler.remove_node(worker) for worker in workers] == [None, None]  # type: ignore[arg-type]
    assert scheduler.nodes == []


def test_workers_that_collected_different_tests_do_none() -> None:
    scheduler, workers, reported = started(nodeids_of(a=2), nodeids_of(a=3))
    assert [(report.outcome, "t/a.py::test[2]" in report.longrepr) for report in reported] == [("failed", True)]
    assert [worker.pending for worker in workers] == [[], []]
    assert scheduler.tests_finished
