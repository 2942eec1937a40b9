"""Killed workers under a mixed load: the clients notice nothing."""

from __future__ import annotations

import random

from tests.load.killer import Kills
from tests.load.served import Served
from tests.load.trial import Trial
from tests.load.world import World

KILLS = 3
SEED = 40


def test_clients_do_not_notice_that_workers_are_killed(world: World) -> None:
    killer = Kills(Served(world.merged), random.Random(SEED), most=100, wanted=KILLS)  # noqa: S311 - a sequence to repeat
    result = Trial(world, SEED).run([killer], is_over=lambda: killer.is_enough)
    assert result.failures() == []
    assert killer.count >= KILLS
