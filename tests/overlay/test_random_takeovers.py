"""Random changes with snapshots, merges, layers that come and go, and workers that take over, beside a plain directory."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from tests.overlay.disturbed_world import Backings, World
from unionfs.overlay import Options


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("metacopy", [False, True], ids=["whole", "metacopy"])
def test_a_union_is_the_same_whoever_takes_over_and_whatever_its_layers_become(
    tmp_path: Path, seed: int, metacopy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backings = Backings()
    monkeypatch.setattr("unionfs.fuse.backing.fcntl.ioctl", backings.ioctl)
    dice = random.Random(seed)  # noqa: S311 - no secret
    with (
        contextlib.closing(backings),
        contextlib.closing(World(tmp_path, Options(index="on", fsync="volatile", metacopy=metacopy), dice, backings)) as world,
    ):
        for _ in range(30):
            _work(world, dice, 12)
            # To look at everything makes all of it known, and it must not matter how much is.
            if dice.random() < 0.3:
                world.check()
            world.forget(dice.choice((0.3, 0.8, 0.95)))
            _work(world, dice, 3)
            world.disturb()
            _work(world, dice, 4)
            if dice.random() < 0.6:
                world.check()
        world.check()


def _work(world: World, dice: random.Random, most: int) -> None:
    for _ in range(dice.randint(0, most)):
        world.step()
        if dice.random() < 0.3:
            world.forget(dice.random())
