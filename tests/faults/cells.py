"""One cell of the fault matrix: an operation in which a call fails, and everything that must be so afterwards."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults.injection import ERRORS, Fault, Kind, injected
from tests.faults.operations import Call, Operation
from tests.faults.tree import Inos, State, make_stack, shown_by, shown_by_new
from tests.overlay.client import Client
from unionfs.check.checked_stack import Directories
from unionfs.check.checker import check
from unionfs.overlay import Options, Stack, Union


class Reference(NamedTuple):
    """An operation that meets no fault: the calls it makes, and what is shown afterwards."""

    calls: list[tuple[str, Kind]]
    after: State


class Outcome(NamedTuple):
    """What came of a fault.

    Attributes:
        failed: the names of the calls that failed.
        number: the error that the operation gave; 0: it succeeded all the same.
        is_done: whether the union shows what it shows after the operation, and not what it showed before.
        problems: what is wrong, in words.
    """

    failed: list[str]
    number: int
    is_done: bool
    problems: list[str]


def faults_of(reference: Reference, *, lasts: bool) -> Iterator[Fault]:
    """Each call with each error that it may get; ``lasts``: the error stays."""
    for at, (_, kind) in enumerate(reference.calls):
        for number, may_get in ERRORS.items():
            if may_get(kind):
                yield Fault(number, at, lasts)


def refer(top: Path, options: Options, operation: Operation) -> Reference:
    """Carry out ``operation`` as it is."""
    _, union, call = _begin(top, options, operation)
    with injected(None) as found:
        call()
    after, _ = shown_by(Client(union))
    union.close()
    shutil.rmtree(top)
    return Reference(found.calls, after)


def try_fault(top: Path, options: Options, operation: Operation, fault: Fault, reference: Reference) -> Outcome:
    """Carry out ``operation`` on new layers under ``top`` with ``fault``, look at everything, and carry it out without the fault
    if it was not done."""
    opened = descriptors()
    stack, union, call = _begin(top, options, operation)
    trial = _Trial(stack, options, union, reference.after)
    with injected(fault) as found:
        number = number_of(call)
    is_done = trial.look("after the fault")
    if number and not is_done:
        again = number_of(call)
        if again:
            once = " once" if number_of(call) == 0 else ""
            trial.problems.append(f"without the fault it gives {errno.errorcode[again]}{once}")
        trial.must_be_done("without the fault")
    elif not is_done:
        trial.problems.append("success was reported of what was not done")
    union.close()
    trial.remount()
    shutil.rmtree(top)
    if len(descriptors()) != len(opened):
        trial.problems.append(f"descriptors left open: {descriptors()[len(opened) :]}")
    return Outcome(found.failed, number, is_done, trial.problems)


def _begin(top: Path, options: Options, operation: Operation) -> tuple[Stack, Union, Call]:
    stack = make_stack(top, operation.linked)
    union = Union(stack, options)
    operation.prepare(Client(union))
    union.close()
    union = Union(stack, options)
    client = Client(union)
    operation.begin(client)
    return stack, union, operation.bind(client)


def number_of(call: Call) -> int:
    """Run it; the number of its error, 0 if it has none."""
    try:
        call()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return found


class _Trial:
    """A union about to meet a fault, and what is found wrong with it."""

    def __init__(self, stack: Stack, options: Options, union: Union, after: State) -> None:
        self._stack = stack
        self._options = options
        self._union = union
        self._after = after
        self._before, self._inos = shown_by_new(stack, options)
        self.problems: list[str] = []

    def look(self, when: str) -> bool:
        """Compare what the union in use shows with what a new one does, and both with what they should; whether the operation was
        done."""
        shown, inos = shown_by(Client(self._union))
        if shown not in (self._before, self._after):
            self.problems.append(f"{when} the union shows neither what was before nor what is after: {self._half(shown)}")
        elif shown == self._before and inos != self._inos:
            self.problems.append(f"{when} inode numbers have changed")
        self._look_anew(when, shown, inos)
        return shown == self._after

    def must_be_done(self, when: str) -> None:
        """The operation was carried out."""
        shown, inos = shown_by(Client(self._union))
        if shown != self._after:
            self.problems.append(f"{when} the union shows otherwise than it should: {difference(shown, self._after)}")
        self._look_anew(when, shown, inos)

    def _look_anew(self, when: str, shown: State, inos: Inos) -> None:
        new, new_inos = shown_by_new(self._stack, self._options)
        if new != shown:
            self.problems.append(f"{when} a new mount shows something else: {difference(new, shown)}")
        elif new_inos != inos:
            self.problems.append(f"{when} a new mount shows other inode numbers: {difference(new_inos, inos)}")
        self._check(when, None)

    def remount(self) -> None:
        """A mount cleans up, and the next one finds nothing to do."""
        assert self._stack.work is not None
        shown, _ = shown_by_new(self._stack, self._options)
        Union(self._stack, self._options).close()
        left = os.listdir(self._stack.work / "work")
        if left:
            self.problems.append(f"the next mount leaves {left} in the work directory")
        if shown_by_new(self._stack, self._options)[0] != shown:
            self.problems.append("the next mount changes what is shown")
        self._check("after the next mount", self._stack.work)

    def _check(self, when: str, work: Path | None) -> None:
        assert self._stack.upper is not None
        found = check(Directories(self._stack.upper, work, self._stack.lowers))
        self.problems += [f"{when} `unionfs check` finds: {outcome.finding.problem}" for outcome in found if outcome.is_left]

    def _half(self, shown: State) -> str:
        return f"from before {difference(shown, self._before)}, from after {difference(shown, self._after)}"


def difference(one: object, other: object) -> str:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    paths = sorted(path for path in {*one, *other} if one.get(path) != other.get(path))
    return "; ".join(f"{path}: {one.get(path)} and not {other.get(path)}" for path in paths) or "nothing"
