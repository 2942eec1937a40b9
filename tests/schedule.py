"""Which worker of a run does which test, where there are several workers (``pytest -n``, by pytest-xdist).

A worker is given *units*: all tests of a file, or of a folder of `TOGETHER`, in their order, so that what a module or a folder
makes once is made once.  The units of `ONE_AT_A_TIME` are done by one worker, one after the other; then it takes others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from xdist.report import report_collection_diff

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

WORKERS = 2
"""Half of the time a test waits for a disk, a daemon or a deadline, so two keep two processors busy; with more of them all would
wait for the units of `ONE_AT_A_TIME`."""

ONE_AT_A_TIME = ("tests/dropin", "tests/containers/test_exchange.py", "tests/volumes/plugin/test_beside_docker.py")
"""Files and folders whose tests use what a machine has once: those with dockerd, which looks for plugins in directories that
nobody can change, and podman, whose containers of all stores have their locks in one piece of shared memory."""

TOGETHER = ("tests/workloads",)
"""Folders with something that takes long to make and serves all their tests.  They are begun before single files."""

AHEAD = 3
"""Tests that a worker knows of, the one that runs included.  It needs the next one to see which fixtures end before it; one more
bridges the time until we answer.  Few, because a run that shall stop (``-x``) still does these."""


def _is_in(nodeid: str, places: Sequence[str]) -> str | None:
    """The one of ``places`` that a test belongs to."""
    file = nodeid.partition("::")[0]
    return next((place for place in places if file == place or file.startswith(f"{place}/")), None)


def unit_of(nodeid: str) -> str:
    """The name of the unit that a test belongs to."""
    return _is_in(nodeid, TOGETHER) or nodeid.partition("::")[0]


class Schedule:
    """A scheduler of pytest-xdist (``xdist.scheduler.Scheduling`` says what its methods are for).  Tests are numbers here: their
    places in what every worker has collected."""

    def __init__(self, config: pytest.Config, workers: int) -> None:
        self._config = config
        self._workers = workers
        self._collected: dict[WorkerController, list[str]] = {}
        self._alone: deque[deque[int]] = deque()
        self._others: deque[deque[int]] = deque()
        self._worker_alone: WorkerController | None = None
        self._scheduled = False
        self._unit: dict[WorkerController, deque[int]] = {}
        self._given: dict[WorkerController, deque[int]] = {}

    @property
    def nodes(self) -> list[WorkerController]:
        return list(self._given)

    @property
    def collection_is_completed(self) -> bool:
        return self._scheduled or len(self._collected) >= self._workers

    @property
    def tests_finished(self) -> bool:
        """Whether all tests were given out: from then on the workers only end."""
        return self._scheduled and not (self._alone or self._others or any(self._unit.values()))

    @property
    def has_pending(self) -> bool:
        return bool(self._alone or self._others or any(self._unit.values()) or any(self._given.values()))

    def add_node(self, node: WorkerController) -> None:
        self._unit[node], self._given[node] = deque(), deque()

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self._collected[node] = list(collection)

    def schedule(self) -> None:
        """Called when all workers have collected, and again when one that replaces a dead one has."""
        if self._differ():
            self._scheduled = True  # with nothing to do: the run ends, and has failed
            return
        if not self._scheduled:
            self._scheduled = True
            self._divide(next(iter(self._collected.values())))
        for known in (1, AHEAD):  # something for everybody, before anybody gets more
            for node in self.nodes:
                self._give(node, known)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        self._given[node].remove(item_index)
        self._give(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker ended.  If it died, the test that it died of; what it did not begin is for the others."""
        given, unit = self._given.pop(node), self._unit.pop(node)
        collected = self._collected.pop(node, [])
        died_of = collected[given.popleft()] if given else None
        for number in reversed([*given, *unit]):
            self._queue_of(collected[number]).appendleft(deque([number]))
        if node is self._worker_alone:
            self._worker_alone = None
        for other in self.nodes:
            self._give(other)
        return died_of

    def mark_test_pending(self, item: str) -> None:
        raise NotImplementedError("only a plugin that repeats tests would call this")

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError("only an answer to `send_steal`, which we do not use")

    def _divide(self, nodeids: Sequence[str]) -> None:
        units: dict[str, deque[int]] = {}
        for number, nodeid in enumerate(nodeids):
            units.setdefault(unit_of(nodeid), deque()).append(number)
        # sorted() is stable: apart from that they stay in the order of collection.
        for unit in sorted(units, key=lambda unit: unit not in TOGETHER):
            self._queue_of(unit).append(units[unit])

    def _queue_of(self, nodeid: str) -> deque[deque[int]]:
        return self._alone if _is_in(nodeid, ONE_AT_A_TIME) else self._others

    def _give(self, node: WorkerController, known: int = AHEAD) -> None:
        """Let a worker know of as many tests as it should; end it if there are no more for it."""
        if not self._scheduled or node not in self._collected or node.shutting_down:
            return
        # Of another unit it gets only the one test that it must know of: somebody else may be free for that unit sooner.
        while len(self._given[node]) < (known if self._unit[node] else min(known, 2)):
            if not self._unit[node] and not self._take_unit(node):
                node.shutdown()  # does what it was given first
                return
            number = self._unit[node].popleft()
            self._given[node].append(number)
            node.send_runtest_some([number])

    def _take_unit(self, node: WorkerController) -> bool:
        if self._alone and self._worker_alone in (None, node):
            self._worker_alone = node
            self._unit[node] = self._alone.popleft()
        elif self._others:
            self._unit[node] = self._others.popleft()
        return bool(self._unit[node])

    def _differ(self) -> bool:
        """Whether the workers have collected different tests, which is reported."""
        (first, expected), *others = self._collected.items()
        told = [
            report_collection_diff(expected, collected, first.gateway.id, node.gateway.id)
            for node, collected in others
            if collected != expected
        ]
        for text in filter(None, told):
            report = pytest.CollectReport(nodeid="", outcome="failed", longrepr=text, result=[])
            self._config.hook.pytest_collectreport(report=report)
        return bool(told)
