"""Changes of a union: those of `tests.faults.operations`, and some of a large file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.scenario import Act, Found, State, difference
from tests.crash.trees import tree_of
from tests.faults.operations import CONFIGURATIONS, Operation, setattr_of, write_to
from tests.faults.tree import OLD, make_stack, shown_by
from tests.mounts import KERNEL
from tests.overlay.client import Client, build
from unionfs.check.checked_stack import Directories
from unionfs.check.checker import check
from unionfs.filesystem import SET_MODE, SET_SIZE, Changes
from unionfs.linux.mount import umount
from unionfs.overlay import Options, Stack, Union

_LARGE = random.Random(1).randbytes(1000) * 200  # noqa: S311  # the same each time
_HOLE = 500_000
"""Bytes between the two halves of the large file."""

_LARGE_OPERATIONS = {
    "write to a large file": Operation(write_to("large", b"THE")),
    "chmod of a large file": Operation(setattr_of("large", Changes(SET_MODE, mode=0o600))),
    "truncate of a large file": Operation(setattr_of("large", Changes(SET_SIZE, size=150_000))),
}


class UnionChange(NamedTuple):
    """One operation on a union.  ``by_kernel``: OverlayFS is asked too, where it knows the form of the whiteouts."""

    options: Options
    operation: Operation
    by_kernel: bool = True

    def stack(self, top: Path) -> Stack:
        """The layers."""
        return Stack((top / "lower",), top / "upper", top / "work")

    def make(self, top: Path) -> None:
        """See `Scenario.make`."""
        make_stack(top, self.operation.linked)
        _make_large(top / "lower")
        union = Union(self.stack(top), self.options)
        self.operation.prepare(Client(union))
        union.close()

    def begin(self, top: Path) -> Act:
        """See `Scenario.begin`."""
        client = Client(Union(self.stack(top), self.options))
        self.operation.begin(client)
        return self.operation.bind(client)

    def look(self, top: Path, *, last: bool = True) -> Found:
        """See `Scenario.look`."""
        stack = self.stack(top)
        problems = _checked(stack, None)
        with contextlib.closing(Union(stack, self.options)) as union:
            state, inos = shown_by(Client(union))
        left = os.listdir(top / "work/work")
        if left:
            problems.append(f"the next mount leaves {left} in the work directory")
        problems += _checked(stack, stack.work)
        if last and self.by_kernel and self.options.whiteout == "auto":
            by_kernel = _shown_by_kernel(top, stack, self.options)
            if by_kernel != state:
                problems.append(f"OverlayFS shows something else: {difference(by_kernel, state)}")
        return Found(state, inos, problems)


def changes() -> Iterator[tuple[str, str, UnionChange]]:
    """All of them: the options in words, the operation in words, and the change."""
    for configuration, (options, operations) in CONFIGURATIONS.items():
        large = _LARGE_OPERATIONS if configuration in ("durable", "strict", "metacopy") else {}
        for name, operation in {**operations, **large}.items():
            yield configuration, name, UnionChange(options, operation)


def durable(options: Options) -> Options:
    """The same, but nothing is lost when the power fails."""
    return dataclasses.replace(options, fsync="auto" if options.fsync == "volatile" else options.fsync)


def _make_large(lower: Path) -> None:
    with (lower / "large").open("wb") as file:
        file.write(_LARGE)
        file.seek(_HOLE, os.SEEK_CUR)
        file.write(_LARGE)
    for path in (lower / "large", lower):
        os.utime(path, ns=(OLD, OLD))


def _checked(stack: Stack, work: Path | None) -> list[str]:
    assert stack.upper is not None
    found = check(Directories(stack.upper, work, stack.lowers))
    return [f"`unionfs check` finds: {outcome.finding.path}: {outcome.finding.problem}" for outcome in found if outcome.is_left]


def _shown_by_kernel(top: Path, stack: Stack, options: Options) -> State:
    merged = build(top / "merged", {})
    settings = ["redirect_dir=on"] + ["index=on"] * (options.index == "on") + ["metacopy=on"] * options.metacopy
    KERNEL.mount(stack.lowers, stack.upper, stack.work, merged, settings)
    try:
        return tree_of(merged)
    finally:
        umount(os.fsencode(merged), 0)
