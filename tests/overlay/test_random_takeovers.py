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
            for _ in range(dice.randint(1, 12)):
                world.step()
            world.check()
            world.disturb()
            world.check()
