"""Kills the worker of a union again and again under a mixed load: what scripts/kills runs."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from typing import Any

from tests.load.killer import Kills
from tests.load.load import Result
from tests.load.report import print_failures, print_results
from tests.load.served import Served
from tests.load.trial import trial
from tests.load.world import DATA_PATHS


def run(data_path: str, kills: int, seed: int, most: int, clients: int, scale: int) -> tuple[dict[str, int], Result]:
    """Work until there were so many kills, 1 to ``most`` operations apart; how many there were, and what came of the load."""
    dice = random.Random(seed)  # noqa: S311 - a sequence to repeat, not a secret
    with trial(data_path, clients, scale, seed) as under_load:
        killer = Kills(Served(under_load.world.merged), dice, most, kills)
        result = under_load.run([killer], is_over=lambda: killer.is_enough)
    return killer.figures(), result


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; status 1 if a client saw any error, or anything differs."""
    parser = argparse.ArgumentParser(prog="scripts/kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="for each data path (1000)")
    parser.add_argument("--seed", type=int, help="of clients and killer (random)")
    parser.add_argument("--data-path", choices=(*DATA_PATHS, "both"), default="both")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--operations", type=int, default=500, help="of the clients between two kills, at most (500)")
    parser.add_argument("--scale", type=int, default=60, help="how many small trees each client has (60)")
    given: Any = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", file=sys.stderr)
    paths = DATA_PATHS if given.data_path == "both" else (given.data_path,)
    results = {path: run(path, given.kills, seed, given.operations, given.clients, given.scale) for path in paths}
    print_results(results)
    for path, (_, result) in results.items():
        print_failures(path, result.failures())
    return 1 if any(result.failures() for _, result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
