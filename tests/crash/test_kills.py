"""A change that is killed leaves what was before or what comes after, and nothing else.

All of them at each of their system calls are `scripts/crash`; here some, each at a few.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.crash.matrix import all_groups, killed
from tests.crash.scenario import Act, Found, Outcome, Scenario
from tests.crash.stopping import FailedError, kill_at, stops

GROUPS = all_groups(is_durable=False)
_STRIDE = 16
"""One change of that many is tried."""


def _some(calls: int) -> Iterable[int]:
    """At one point on the way, and where it is about to be done or has just been."""
    return sorted({calls // 2, calls - 1})


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.mark.parametrize("group", GROUPS)
def test_killed_change_is_done_or_not_done(group: str, tmp_path: Path) -> None:
    names = list(GROUPS[group])[len(group) % _STRIDE :: _STRIDE]
    crashes = list(killed(tmp_path, {name: GROUPS[group][name] for name in names}, _some))
    assert len(crashes) >= len(names)
    assert [problem for crash in crashes for problem in crash._replace(group=group).problems()] == []


def test_killed_create_of_a_user_leaves_no_file_of_root(tmp_path: Path) -> None:
    """It was there, empty, and root's."""
    crashes = list(killed(tmp_path, {"create": GROUPS["plain"]["create by a user"]}))
    # Nothing is done any more once it has its name.
    assert {crash.judgement.outcome for crash in crashes} == {Outcome.BEFORE}
    assert [problem for crash in crashes for problem in crash.problems()] == []


# -- that it would be seen ----------------------------------------------------------------------------------------------------


class _HalfDone:
    """Two files that belong together, written one after the other."""

    def make(self, top: Path) -> None:
        top.mkdir(parents=True)
        for name in ("one", "two"):
            (top / name).write_text("old")

    def begin(self, top: Path) -> Act:
        def act() -> None:
            for name in ("one", "two"):
                (top / "new").write_text("new")
                (top / "new").rename(top / name)

        return act

    def look(self, top: Path, *, last: bool = True) -> Found:
        del last
        names = {"one", "two"}
        left = [f"{name} is left" for name in set(os.listdir(top)) - names]
        return Found({name: (top / name).read_text() for name in names}, {}, left)


def test_half_of_a_change_is_found_to_be_wrong(tmp_path: Path) -> None:
    scenario: Scenario = _HalfDone()
    crashes = list(killed(tmp_path, {"half": scenario}))
    assert [(crash.call, crash.judgement.outcome) for crash in crashes] == [
        ("openat", Outcome.BEFORE),
        ("write", Outcome.BEFORE),
        ("rename", Outcome.BEFORE),
        ("openat", Outcome.WRONG),
        ("write", Outcome.WRONG),
        ("rename", Outcome.WRONG),
    ]
    assert ["new is left" in crash.judgement.problems for crash in crashes] == [False, True, True] * 2


def _make_all(directory: Path, names: str) -> Callable[[], Act]:
    def act() -> None:
        for name in names:
            (directory / name).mkdir()

    return lambda: act


def test_process_is_killed_before_the_call_that_was_named(tmp_path: Path) -> None:
    assert kill_at(_make_all(tmp_path, "abc"), 1) == "mkdir"
    assert os.listdir(tmp_path) == ["a"]
    assert kill_at(_make_all(tmp_path, "de"), 99) is None
    assert sorted(os.listdir(tmp_path)) == ["a", "d", "e"]


def test_children_of_what_is_killed_are_killed_too(tmp_path: Path) -> None:
    def act() -> None:
        if os.fork() == 0:
            os.setsid()
            (tmp_path / "by the child").mkdir()
            os._exit(0)
        os.wait()

    assert kill_at(lambda: act, 0) == "mkdir"
    assert os.listdir(tmp_path) == []


def test_failure_of_what_is_stopped_is_told(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="FileExistsError"):
        list(stops(lambda: lambda: tmp_path.mkdir()))
