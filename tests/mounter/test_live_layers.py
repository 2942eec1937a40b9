"""Changes of the layers of a union in use, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from unionfs.filesystem import ROOT_ID, Notice, StaleContents, StaleName
from unionfs.fuse.session import Session
from unionfs.mounter import live_layers
from unionfs.mounter.live_layers import LiveLayers
from unionfs.mounter.registry import Record, Registration
from unionfs.overlay import Union


class _Told:
    """What happened, in its order; a session that takes its time to tell the kernel, and a union."""

    lowers: tuple[()] = ()

    def __init__(self) -> None:
        self.negotiated: dict[str, object] = {}
        self.events: list[object] = []
        self.is_telling, self.may_go_on = trio.Event(), trio.Event()

    async def tell(self, notices: Sequence[Notice]) -> None:
        self.events.append(list(notices))
        self.is_telling.set()
        await self.may_go_on.wait()

    def everything(self) -> list[Notice]:
        return [StaleContents(ROOT_ID)]

    def begin_change(self) -> None:
        self.events.append("begins")

    def end_change(self) -> None:
        self.events.append("ends")

    def reread_layers(self, _keeps_sizes: bool) -> _Told:
        return self

    def apply(self) -> list[Notice]:
        return []


def _layers(told: _Told) -> LiveLayers:
    record = cast(Record, SimpleNamespace(lowers=[], mountpoint="/merged", restarts=0))
    return LiveLayers(cast(Union, told), cast(Session, told), cast(Registration, None), record)


def test_no_change_begins_before_the_kernel_was_told_of_the_one_that_was_cut_off() -> None:
    told = _Told()
    layers = _layers(told)
    refresh: Any = layers.handlers["refresh"]

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(layers.finish_change)
            await told.is_telling.wait()
            nursery.start_soon(refresh, {})
            await trio.testing.wait_all_tasks_blocked()
            assert told.events == [[StaleContents(ROOT_ID)]]
            told.may_go_on.set()

    trio.run(both)
    assert told.events == [[StaleContents(ROOT_ID)], "ends", "begins", [], "ends"]


class _Change:
    """One that something is in the way of until the kernel was told."""

    def __init__(self, told: _Told) -> None:
        self.lost_paths: list[str] = []
        self.in_the_way = [] if told.events else [SimpleNamespace(path="file", names=[StaleName(ROOT_ID, b"file")])]
        self.is_held = bool(self.in_the_way)

    def discard(self) -> None:
        """Nothing is to be done."""


def test_kernel_is_asked_to_let_go_however_long_it_takes_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_layers, "_PATIENCE", 0.0)
    told = _Told()
    told.may_go_on.set()
    monkeypatch.setattr(told, "change_layers", lambda _lowers: _Change(told), raising=False)
    change = trio.run(_layers(told)._plan_without_users, [])
    assert (change.in_the_way, told.events) == ([], [[StaleName(ROOT_ID, b"file")]])
