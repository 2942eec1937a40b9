"""One load from beginning to end: a union made, mounted, worked on, compared, mounted again, compared, and looked at."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.load.disturbances import Disturbance
from tests.load.load import Load, Result
from tests.load.world import World
from tests.mounts import MountFailedError


class Trial:
    """A mounted world under a load."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self._seed = seed

    def run(self, disturbances: Sequence[Disturbance], is_over: Callable[[], bool], steps: int = 0) -> Result:
        """The load until ``is_over``, or for so many steps of each client, and then the comparisons, whose findings are problems
        of the result.  The world is not mounted any more, unless the load has failed."""
        world = self.world
        result = Load(world, self._seed, disturbances, steps).run(is_over)
        if result.failures():
            return result  # the trees differ now in any case
        result.problems += [f"at the end: {line}" for line in world.differences()]
        try:
            world.umount()
            world.mount()
            result.problems += [f"after a remount: {line}" for line in world.differences()]
            world.umount()
        except MountFailedError as failed:
            result.problems.append(f"remount: {failed}")
        else:
            result.problems += world.problems()
        return result


@contextmanager
def trial(data_path: str, clients: int, scale: int, seed: int, options: tuple[str, ...] = ()) -> Iterator[Trial]:
    """A union mounted in a temporary directory ($TMPDIR), with a registry and logs of its own; taken away at the end."""
    with tempfile.TemporaryDirectory(prefix="unionfs-load-") as name:
        top = Path(name)
        os.environ["UNIONFS_RUNTIME_DIR"], os.environ["UNIONFS_LOG_DIR"] = str(top / "run"), str(top / "log")
        world = World(top, data_path, clients, scale, options)
        world.mount()
        try:
            world.copy()
            yield Trial(world, seed)
        finally:
            world.close()
