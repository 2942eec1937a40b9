"""Random operations on a union of ours and on a kernel OverlayFS of the same layers must never be told apart.

The layers are made by hand, or by random operations on unions of the kernel.

After every operation the outcome and the whole visible tree are compared.  Now and then the kernel is made to forget what it
knows of the mounts, so that everything is looked up again.  Now and then too, and at the end, the uppers are swapped: the
kernel mounts ours, we mount the kernel's, both show what the other showed before, and go on from there.  `unionfs check` finds
nothing wrong in either.

How many operations: UNIONFS_RANDOM_OPERATIONS (default: what fits a run of the whole suite).  A failure prints how to replay it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.behaviour.tree import Record, Snapshot, differences
from tests.differential.lowers import LayersOfUnions, build_layers
from tests.differential.operations import operations
from tests.differential.player import Operation, Player
from tests.mounts import DIRECT, DIRECT_CACHED, KERNEL, OURS, Backend, mounts_under, tear_down
from unionfs.check import Directories, Outcome, check
from unionfs.linux.mount import MS_REMOUNT, mount

STEPS = 40
OPERATIONS = int(os.environ.get("UNIONFS_RANDOM_OPERATIONS", "120"))

_LONG_AGO_NS = 1_100_000_000 * 10**9
"""Times before this were set by a test or come from the layers; later ones are those of the two runs, a moment apart."""


class World:
    """One mount with an upper of its own; ``form``: of our whiteouts in it."""

    def __init__(self, backend: Backend, top: Path, lowers: list[Path], options: tuple[str, ...], form: str) -> None:
        self.backend = backend
        self.form = form
        self.upper, self.work, self.merged = top / "upper", top / "work", top / "merged"
        self._lowers = lowers
        self._options = options
        for directory in (self.upper, self.work, self.merged):
            directory.mkdir(parents=True)

        self.player = Player(self.merged)

    def mount(self, form: str | None = None) -> None:
        words = () if self.backend is KERNEL else (f"whiteout={form or self.form}",)
        self.backend.mount(self._lowers, self.upper, self.work, self.merged, (*self._options, *words))

    def umount(self) -> None:
        self.player.let_go()
        self.backend.umount(self.merged)

    def problems(self) -> list[Outcome]:
        """What `unionfs check` complains about."""
        directories = Directories(self.upper, self.work, tuple(self._lowers))
        return [outcome for outcome in check(directories) if outcome.is_left]

    def seen(self) -> Snapshot:
        """The visible tree, without what two runs of the same operations cannot share."""
        # When the data of a metadata-only copy follows, that moves the mtime in OverlayFS (ovl_copy_up_meta_inode_data does not
        # put it back).  Here it does not: nobody has written.
        has_mtimes = "metacopy=on" not in self._options
        return Snapshot({path: _comparable(record, has_mtimes) for path, record in Snapshot.of(self.merged).records.items()})


def _comparable(record: Record, has_mtimes: bool) -> Record:
    mtime = record.mtime_ns if record.mtime_ns < _LONG_AGO_NS and (has_mtimes or record.kind != "-") else -1
    return replace(record, mtime_ns=mtime)


def forget(*worlds: World) -> None:
    """Make the kernel drop the names and inodes that are not in use, as reconfigure_super() does."""
    for world in worlds:
        mount(b"none", bytes(world.merged), b"none", MS_REMOUNT, b"")


def swap(one: World, other: World) -> None:
    """Let each world be mounted by the backend of the other from here on."""
    shown = [world.seen() for world in (one, other)]
    for world in (one, other):
        world.umount()
        assert world.problems() == []
    for world, before in zip((one, other), shown, strict=True):
        if world.form != "auto" and world.backend is not KERNEL:
            world.mount("auto")
            assert differences(before, world.seen()) == []
            world.umount()
    one.backend, other.backend = other.backend, one.backend
    for world, before in zip((one, other), shown, strict=True):
        world.mount()
        assert differences(before, world.seen()) == [], f"{world.upper.parent.name} upper, mounted by {world.backend.name}"


def end(one: World, other: World) -> None:
    """Unmount both, after a last exchange."""
    swap(one, other)
    for world in (one, other):
        world.umount()
        assert world.problems() == []


def clear_away(top: Path, worlds: Iterable[World]) -> None:
    """Remove what a run has left, however it ended."""
    for world in worlds:
        world.player.let_go()
    for left in mounts_under(top):
        tear_down(left)
    shutil.rmtree(top)


MADE_BY_HAND = st.just(build_layers)


def machine(
    ours: Backend,
    options: tuple[str, ...],
    form: str = "auto",
    layers: st.SearchStrategy[Callable[[Path], list[Path]]] = MADE_BY_HAND,
) -> type[RuleBasedStateMachine]:
    """The state machine for one backend of ours and one set of mount options.

    ``form``: of our whiteouts; ``layers``: what makes the lowers in a directory."""

    class Differential(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.top = Path(tempfile.mkdtemp(prefix="unionfs-differential-"))
            self.lowers: list[Path] = []
            self.before: list[Snapshot] = []
            self.worlds: list[World] = []

        @initialize(make=layers)
        def mount(self, make: Callable[[Path], list[Path]]) -> None:
            self.lowers = make(self.top)
            self.before = [Snapshot.of(lower, exact=True) for lower in self.lowers]
            self.worlds = [World(each, self.top / each.name, self.lowers, options, form) for each in (KERNEL, ours)]
            for world in self.worlds:
                world.mount()
            assert differences(*(world.seen() for world in self.worlds)) == []

        @rule(operation=operations(), then=st.sampled_from((*[None] * 89, *[forget] * 10, swap)))
        def operate(self, operation: Operation, then: Callable[[World, World], None] | None) -> None:
            outcomes = {world.backend.name: operation.play(world.player) for world in self.worlds}
            assert len(set(outcomes.values())) == 1, f"{operation}: {outcomes}"
            assert differences(*(world.seen() for world in self.worlds)) == []
            if then is not None:
                then(*self.worlds)

        def teardown(self) -> None:
            try:
                if self.worlds:
                    end(*self.worlds)
                for lower, before in zip(self.lowers, self.before, strict=True):
                    assert differences(before, Snapshot.of(lower, exact=True)) == []
            finally:
                clear_away(self.top, self.worlds)

    return Differential


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [("redirect_dir=off",), ("redirect_dir=on", "index=on")], ids=",".join)
@pytest.mark.parametrize("ours", OURS, ids=lambda backend: backend.name)
def test_random_operations_cannot_tell_ours_from_the_kernels(ours: Backend, options: tuple[str, ...]) -> None:
    run(machine(ours, options), OPERATIONS)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", ["xattr", "wh"])
def test_whiteouts_that_are_no_devices_change_nothing_and_become_devices_where_these_are_possible(form: str) -> None:
    """Before the kernel mounts the upper, a mount that can make devices reads everything in it."""
    run(machine(DIRECT_CACHED, ("redirect_dir=off",), form), OPERATIONS // 2)


MIXES = [
    ("redirect_dir=off",),
    ("redirect_dir=on", "metacopy=on"),
    ("redirect_dir=off", "index=on"),
    ("redirect_dir=on", "index=on"),
    ("redirect_dir=on", "metacopy=on", "index=on"),
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", MIXES, ids=",".join)
@pytest.mark.parametrize("ours", [DIRECT, DIRECT_CACHED], ids=lambda backend: backend.name)
def test_layers_that_the_kernel_made_cannot_be_told_apart_either(ours: Backend, options: tuple[str, ...]) -> None:
    """Two of them over a third, with all that a kernel leaves in an upper under the same options."""
    changes = st.lists(operations(), min_size=5, max_size=25)
    layers = st.builds(LayersOfUnions, st.just(options), st.tuples(changes, changes))
    run(machine(ours, options, layers=layers), OPERATIONS // 2)


def run(machine: type[RuleBasedStateMachine], operations: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, operations // STEPS),
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
