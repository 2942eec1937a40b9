"""A mixed load for long, with everything that can disturb it: what scripts/soak runs."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.load.disturbances import Disturbance, Layers, Snapshots, Upgrades
from tests.load.killer import Kills
from tests.load.load import Result
from tests.load.report import print_failures, print_results, print_trends
from tests.load.samples import Sampler, Trend, trends
from tests.load.served import Served
from tests.load.trial import Trial, trial
from tests.load.world import DATA_PATHS

KINDS = ("kills", "upgrades", "snapshots", "layers")
_KEPT_INODES = "max_inodes=20000"
"""So that what the kernel and the union know has a bound that is reached early, and more would be a leak."""


def _disturbances(kinds: Sequence[str], under_load: Trial, dice: random.Random) -> list[Disturbance]:
    merged = under_load.world.merged
    killer = Kills(Served(merged), dice, 5000)

    def kills() -> int:
        return killer.count

    made: dict[str, Disturbance] = {
        "kills": killer,
        "upgrades": Upgrades(merged, dice, 40_000, kills),
        "snapshots": Snapshots(merged, dice, 25_000, kills),
        "layers": Layers(merged, dice, 20_000, kills, merged.parent / "layers"),
    }
    return [made[kind] for kind in kinds]


def run(
    data_path: str, seconds: float, kinds: Sequence[str], seed: int, clients: int, scale: int
) -> tuple[dict[str, int], Result, list[Trend]]:
    """Work for so long; how often what was done, what came of the load, and how the figures developed."""
    dice = random.Random(seed)  # noqa: S311 - a sequence to repeat, not a secret
    with trial(data_path, clients, scale, seed, (_KEPT_INODES,)) as under_load:
        merged = under_load.world.merged
        disturbances = _disturbances(kinds, under_load, dice)
        sampler = Sampler(Served(merged), merged / "probe", min(60.0, seconds / 30))
        end = time.monotonic() + seconds
        result = under_load.run([*disturbances, sampler], is_over=lambda: time.monotonic() >= end)
    figures = {name: count for each in (*disturbances, sampler) for name, count in each.figures().items()}
    return figures, result, trends(sampler.samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; status 1 if a client saw any error, anything differs, or a figure is not flat."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="in all (30)")
    parser.add_argument("--seed", type=int, help="of clients and disturbances (random)")
    parser.add_argument("--data-path", choices=(*DATA_PATHS, "both"), default="both")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--scale", type=int, default=20, help="how many small trees each client has (20)")
    parser.add_argument("--disturbances", default=",".join(KINDS), help=f"of {', '.join(KINDS)} (all)")
    given: Any = parser.parse_args(arguments)
    kinds = [kind for kind in given.disturbances.split(",") if kind]
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--disturbances: {', '.join(sorted(unknown))}: there are {', '.join(KINDS)}")
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", file=sys.stderr)
    paths = DATA_PATHS if given.data_path == "both" else (given.data_path,)
    seconds = given.minutes * 60 / len(paths)
    found = {path: run(path, seconds, kinds, seed, given.clients, given.scale) for path in paths}
    print_results({path: (figures, result) for path, (figures, result, _) in found.items()})
    print()
    print_trends({path: developed for path, (_, _, developed) in found.items()})
    is_wrong = False
    for path, (_, result, developed) in found.items():
        failures = result.failures() + [f"{each.figure} is not flat" for each in developed if not each.is_flat]
        print_failures(path, failures)
        is_wrong |= bool(failures)
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
