"""Kills what makes a change before each of its changing system calls, and looks at what is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.crash.scenario import Judgement, Reference, Scenario
from tests.crash.stopping import kill_at, stops


class Crash(NamedTuple):
    """A crash before ``call``, and what it has left."""

    call: str
    judgement: Judgement


def refer(top: Path, scenario: Scenario) -> tuple[Reference, int]:
    """Make the change whole; what there is before and after, and how many changing system calls it takes."""
    scenario.make(top)
    before = scenario.look(top, last=False)
    calls = sum(1 for _ in stops(partial(scenario.begin, top)))
    return Reference.of(before, scenario.look(top)), calls


def kills(directory: Path, scenario: Scenario, points: Callable[[int], Iterable[int]] = range) -> Iterator[Crash]:
    """Crash it before some of its changing system calls: those of ``points``, which is told how many there are."""
    reference, calls = refer(directory / "reference", scenario)
    for point in points(calls):
        top = directory / str(point)
        scenario.make(top)
        inos = scenario.look(top, last=False).inos
        call = kill_at(partial(scenario.begin, top), point)
        found = scenario.look(top)
        assert call is not None, "it makes fewer calls than before"
        yield Crash(call, reference.judge(found, inos))
        shutil.rmtree(top)
    shutil.rmtree(directory)
