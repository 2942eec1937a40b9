"""Random operations on a union of ours and on a kernel OverlayFS of the same layers must never be told apart.

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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.behaviour.tree import Record, Snapshot, differences
from tests.differential.operations import Operation, Player, operations
from tests.mounts import DIRECT_CACHED, KERNEL, OURS, Backend, mounts_under, tear_down
from unionfs.check import Directories, Outcome, check
from unionfs.linux.mount import MS_REMOUNT, mount

STEPS = 40
OPERATIONS = int(os.environ.get("UNIONFS_RANDOM_OPERATIONS", "250"))

_LONG_AGO_NS = 1_100_000_000 * 10**9
"""Times before this were set by a test or come from the layers; later ones are those of the two runs, a moment apart."""


def build_layers(top: Path) -> list[Path]:
    """Three lowers full of the same few names in different roles, with whiteouts and an opaque directory."""
    lowers = [top / f"lower{index}" for index in range(3)]
    for lower in lowers:
        lower.mkdir(parents=True)
    files = {
        0: ("a/a", "a/b", "b/c", "c"),
        1: ("a/a", "a/c/d", "b/a/a", "b/c", "d/d", "d/a/b"),
        2: ("a/b/c", "a/c/a", "a/c/d", "b/a/b", "b/d", "c/a", "d/d"),
    }
    for index, names in files.items():
        for name in names:
            path = lowers[index] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{name} of lower{index}".encode())
    os.setxattr(lowers[0] / "a/a", "user.one", b"1")
    (lowers[1] / "a/d").symlink_to("../c")
    os.mkfifo(lowers[2] / "b/b")
    os.link(lowers[2] / "b/d", lowers[2] / "d/c")
    for index, old, names in ((1, "a/a", ("a/c/a", "c/b")), (2, "a/b/c", ("a/a", "d/a")), (2, "b/b", ("c/c",))):
        for name in names:
            (lowers[index] / name).parent.mkdir(exist_ok=True)
            os.link(lowers[index] / old, lowers[index] / name, follow_symlinks=False)
    os.mknod(lowers[1] / "b/d", 0o020000, 0)  # a whiteout in the middle
    os.setxattr(lowers[1] / "d", "trusted.overlay.opaque", b"y")
    for lower in lowers:
        for directory, directories, names in os.walk(lower, topdown=False):
            for name in (*names, *directories):
                os.utime(Path(directory, name), ns=(10**18, 10**18 + 5), follow_symlinks=False)
        os.utime(lower, ns=(10**18, 10**18 + 5))
    return lowers


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
        return Snapshot({path: _comparable(record) for path, record in Snapshot.of(self.merged).records.items()})


def _comparable(record: Record) -> Record:
    mtime = record.mtime_ns if record.mtime_ns < _LONG_AGO_NS else -1
    if record.kind == "directory":
        return replace(record, mtime_ns=mtime, size=None, nlink=None)
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


def machine(ours: Backend, options: tuple[str, ...], form: str = "auto") -> type[RuleBasedStateMachine]:
    """The state machine for one backend of ours and one set of mount options; ``form``: of our whiteouts."""

    class Differential(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.top = Path(tempfile.mkdtemp(prefix="unionfs-differential-"))
            lowers = build_layers(self.top)
            self.before = [Snapshot.of(lower, exact=True) for lower in lowers]
            self.lowers = lowers
            self.worlds = [
                World(KERNEL, self.top / "kernel", lowers, options, form),
                World(ours, self.top / "ours", lowers, options, form),
            ]
            for world in self.worlds:
                world.mount()

        @rule(operation=operations(), then=st.sampled_from((*[None] * 89, *[forget] * 10, swap)))
        def operate(self, operation: Operation, then: Callable[[World, World], None] | None) -> None:
            outcomes = {world.backend.name: operation.play(world.player) for world in self.worlds}
            assert len(set(outcomes.values())) == 1, f"{operation}: {outcomes}"
            assert differences(*(world.seen() for world in self.worlds)) == []
            if then is not None:
                then(*self.worlds)

        def teardown(self) -> None:
            try:
                swap(*self.worlds)
                for world in self.worlds:
                    world.umount()
                    assert world.problems() == []
                for lower, before in zip(self.lowers, self.before, strict=True):
                    assert differences(before, Snapshot.of(lower, exact=True)) == []
            finally:
                for world in self.worlds:
                    world.player.let_go()
                for left in mounts_under(self.top):
                    tear_down(left)
                shutil.rmtree(self.top)

    return Differential


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [("redirect_dir=off",), ("redirect_dir=on", "index=on")], ids=lambda options: options[-1])
@pytest.mark.parametrize("ours", OURS, ids=lambda backend: backend.name)
def test_random_operations_cannot_tell_ours_from_the_kernels(ours: Backend, options: tuple[str, ...]) -> None:
    run(machine(ours, options), OPERATIONS)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", ["xattr", "wh"])
def test_whiteouts_that_are_no_devices_change_nothing_and_become_devices_where_these_are_possible(form: str) -> None:
    """Before the kernel mounts the upper, a mount that can make devices reads everything in it."""
    run(machine(DIRECT_CACHED, ("redirect_dir=off",), form), OPERATIONS // 2)


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
