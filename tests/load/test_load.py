"""A mixed load of several clients on a union: it cannot be told from a plain directory, at once, in the end, after a remount."""

from __future__ import annotations

import random
from pathlib import Path

from tests.load.client import Client
from tests.load.disturbances import Layers, Snapshots
from tests.load.trial import Trial
from tests.load.world import World

STEPS = 250
SEED = 20
_MOST = 80
"""Operations of the clients between two disturbances, at most."""


def test_clients_cannot_tell_a_union_from_a_plain_directory(world: World) -> None:
    result = Trial(world, SEED).run([], is_over=lambda: False, steps=STEPS)
    assert result.failures() == []
    assert [report.steps for report in result.reports] == [STEPS, STEPS]


def test_clients_do_not_notice_snapshots_and_changes_of_layers(world: World, tmp_path: Path) -> None:
    dice = random.Random(SEED)  # noqa: S311 - a sequence to repeat, not a secret
    disturbances = [
        Snapshots(world.merged, dice, _MOST, kills=lambda: 0),
        Layers(world.merged, dice, _MOST, kills=lambda: 0, directory=tmp_path / "layers"),
    ]
    result = Trial(world, SEED).run(disturbances, is_over=lambda: all(each.done for each in disturbances))
    assert result.failures() == []


def test_a_client_finds_what_is_not_as_in_the_plain_directory(world: World) -> None:
    """The load is no test if it cannot fail."""
    part = world.parts[0]
    for path in (world.merged / part / "trees").rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o444)
    client = Client(world.merged / part, world.plain / part, SEED, may_lag=world.readers_may_lag)
    try:
        assert not all(client.step() for _ in range(STEPS))
    finally:
        client.end()
    assert f"seed {SEED}, step" in client.report.failure
    assert not client.report.is_error


def test_an_error_that_the_plain_directory_does_not_give_is_told_as_one(world: World) -> None:
    part = world.parts[0]
    for path in sorted((world.merged / part / "files").iterdir()):
        path.unlink()
        path.mkdir()
    client = Client(world.merged / part, world.plain / part, SEED, may_lag=world.readers_may_lag)
    try:
        assert not all(client.step() for _ in range(STEPS))
    finally:
        client.end()
    assert "EISDIR" in client.report.failure
    assert client.report.is_error
