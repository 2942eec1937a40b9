"""Cuts the power at every moment of a change, and looks at what the filesystem of the disk makes of what has come to that.

The changes are made one after the other on one recorded `Disk`, each in a directory of its own.  Before each of its system calls
that change something the filesystem is made to write out its names and attributes: by then a file may lack data, as it may after
some seconds of real life.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.crash.disk import Disk
from tests.crash.recorder import Write
from tests.crash.scenario import Found, Judgement, Reference, Scenario
from tests.crash.stopping import run, stops

_LIKELY = 0.5
"""That a write has come to the disk, whatever came before or after it."""


class Moment(NamedTuple):
    """How much has been written when ``call`` is about to be made."""

    call: str
    position: int


class Recorded(NamedTuple):
    """A change that was made on the disk: what there was before, what there is after, and all moments between."""

    name: str
    scenario: Scenario
    top: Path
    before: Found
    after: Found
    moments: list[Moment]


class Cut(NamedTuple):
    """A power cut in the change ``name`` before ``call``, and what it has left."""

    name: str
    call: str
    judgement: Judgement


def cuts(disk: Disk, changes: Mapping[str, Scenario], *, between: bool = False) -> Iterator[Cut]:
    """Record all ``changes``, then cut the power of each at all of its moments; ``between``: also once before each of them, where
    any part of what was not flushed may be lost.  The disk is removed at the end."""
    recorded = _record(disk, changes, partial(_moments, disk))
    log = disk.log()
    for change in recorded:
        for state in _states(change.moments, log, between=between):
            yield _cut(disk, change, state, may_lack_data=True)
    disk.remove()


def broken_promises(disk: Disk, changes: Mapping[str, Scenario]) -> Iterator[Cut]:
    """Cut the power of each right after it, where nobody but itself has had anything written out: what is not after is wrong."""
    for change in _record(disk, changes, partial(_last_moment, disk)):
        for call, position in change.moments:
            yield _cut(disk, change, _State(call, position, []), may_lack_data=False)
    disk.remove()


def _cut(disk: Disk, change: Recorded, state: _State, *, may_lack_data: bool) -> Cut:
    with disk.as_of(state.position, state.more):
        found = change.scenario.look(change.top)
    reference = Reference.of(change.before, change.after)
    return Cut(change.name, state.call, reference.judge(found, change.before.inos, may_lack_data=may_lack_data))


def _record(
    disk: Disk, changes: Mapping[str, Scenario], moments_of: Callable[[Scenario, Path], Iterable[Moment]]
) -> list[Recorded]:
    with disk.recorded():
        tops = {name: disk.directory / str(number) for number, name in enumerate(changes)}
        for name, scenario in changes.items():
            scenario.make(tops[name])
        before = {name: scenario.look(tops[name], last=False) for name, scenario in changes.items()}
        disk.sync()
        moments = {name: list(moments_of(scenario, tops[name])) for name, scenario in changes.items()}
        disk.sync()
        after = {name: scenario.look(tops[name]) for name, scenario in changes.items()}
    return [Recorded(name, scenario, tops[name], before[name], after[name], moments[name]) for name, scenario in changes.items()]


def _moments(disk: Disk, scenario: Scenario, top: Path) -> Iterator[Moment]:
    for call in stops(partial(scenario.begin, top)):
        disk.commit()
        yield Moment(call, disk.position())
    disk.commit()
    yield Moment("the end", disk.position())


def _last_moment(disk: Disk, scenario: Scenario, top: Path) -> Iterator[Moment]:
    run(partial(scenario.begin, top))
    yield Moment("the end", disk.position())


class _State(NamedTuple):
    """What has come to the disk before ``call``: all that was written until ``position``, and ``more`` of what was later."""

    call: str
    position: int
    more: list[Write]


def _states(moments: Iterable[Moment], log: list[Write], *, between: bool) -> Iterator[_State]:
    """What has come to the disk by each moment, and ``between`` what may have come on the way there."""
    start = 0
    for call, position in moments:
        on_the_way = [write for write in log if start < write.end < position]
        if between and start and on_the_way:
            yield _on_the_way(f"{call}, on the way there", start, on_the_way)
        yield _State(call, position, [])
        start = position


def _on_the_way(call: str, start: int, writes: list[Write]) -> _State:
    """Some of the first ``writes`` after ``start``: all until the last flush, and any part of what came after it."""
    chance = random.Random(start)  # noqa: S311  # the same each time
    writes = writes[: chance.randrange(len(writes)) + 1]
    flushed = max((write.end for write in writes if write.data is None), default=start)
    return _State(call, flushed, [write for write in writes if write.end > flushed and chance.random() < _LIKELY])
