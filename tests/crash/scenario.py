"""What is crashed in the midst of, and what is looked at afterwards."""

from __future__ import annotations

import stat
import textwrap
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.faults.tree import Shown

_LONGEST = 300
"""Characters of what is told of one path."""

Act = Callable[[], object]

State = Mapping[str, object]
"""All that can be seen, by where it is; the same on every run."""


class Found(NamedTuple):
    """What is there after a crash: all that is seen, the inode numbers of files, and what is wrong whatever that is."""

    state: State
    inos: Mapping[str, int]
    problems: list[str]


class Scenario(Protocol):
    """A change that takes several system calls.  ``top`` is a directory of its own, the same in all calls."""

    def make(self, top: Path) -> None:
        """Make what there is before, ``top`` included, and end whoever did it."""

    def begin(self, top: Path) -> Act:
        """Open what is needed; what is returned makes the change.  It runs in a process that may be killed from then on."""

    def look(self, top: Path, *, last: bool = True) -> Found:
        """What there is: as the next mount, or the next command, finds it and brings it in order.  ``last``: nobody looks after
        this, so other programs may be asked too, which leave traces."""


def difference(one: State, other: State) -> str:
    """Where two states differ, in words."""
    paths = sorted(path for path in {*one, *other} if one.get(path) != other.get(path))
    return "; ".join(f"{path}: {_brief(one.get(path))} and not {_brief(other.get(path))}" for path in paths) or "nowhere"


def _brief(seen: object) -> str:
    return textwrap.shorten(repr(seen), _LONGEST)


class Outcome(Enum):
    """What a crash has left."""

    BEFORE = "before"
    AFTER = "after"
    BEHIND = "behind"
    """What is after, but of a file that nobody has synced the data from before."""
    WRONG = "wrong"


class Judgement(NamedTuple):
    """What a crash has left, and what is wrong with that, in words."""

    outcome: Outcome
    problems: list[str]


class Reference(NamedTuple):
    """The two states that there may be, and the paths that keep their inode number in the change."""

    before: State
    after: State
    kept: frozenset[str]

    @classmethod
    def of(cls, before: Found, after: Found) -> Reference:
        """That of a change that nothing came between."""
        assert [*before.problems, *after.problems] == [], (before.problems, after.problems)
        assert before.inos.keys() <= before.state.keys()
        kept = (path for path, ino in before.inos.items() if after.inos.get(path) == ino)
        return cls(before.state, after.state, frozenset(kept))

    def judge(self, found: Found, inos: Mapping[str, int], *, may_lack_data: bool = False) -> Judgement:
        """``inos``: the inode numbers before; ``may_lack_data``: what was written and not synced may be lost."""
        problems = list(found.problems)
        outcome = self._outcome(found.state, may_lack_data)
        if outcome is Outcome.WRONG:
            halves = f"from before {difference(found.state, self.before)}; from after {difference(found.state, self.after)}"
            problems.append(f"neither what was before nor what is after: {halves}")
        kept = inos if outcome is Outcome.BEFORE else self.kept
        changed = [path for path in kept if found.inos.get(path) != inos[path]]
        if changed:
            problems.append(f"another inode number: {', '.join(changed)}")
        return Judgement(outcome, problems)

    def _outcome(self, state: State, may_lack_data: bool) -> Outcome:
        if state == self.after:
            return Outcome.AFTER
        if state == self.before:
            return Outcome.BEFORE
        return Outcome.BEHIND if may_lack_data and self._may_be_behind(state) else Outcome.WRONG

    def _may_be_behind(self, state: State) -> bool:
        return state.keys() == self.after.keys() and all(
            shown in _behind(self.before.get(path), self.after[path]) for path, shown in state.items()
        )


def _behind(before: object, after: object) -> list[object]:
    """What a file may be while data that was written to it is still on its way: its length is set with it, or before it."""
    if not (isinstance(before, Shown) and isinstance(after, Shown) and stat.S_ISREG(before.mode) and stat.S_ISREG(after.mode)):
        return [after]
    old = before.contents
    return [
        after,
        after._replace(size=before.size, contents=old),
        after._replace(contents=old[: after.size].ljust(after.size, b"\0")),
    ]
