"""What happens to a union while a load runs on it: its worker is killed or replaced, snapshots are taken, layers come and go.

A disturbance waits until the clients have done so many operations, does its thing, waits again, and so on, in a thread of its
own.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.load.progress import Progress
from tests.mounts import MountFailedError, start_unionfs
from tests.programs import wait_until

KEPT_SNAPSHOTS = 4
"""With more of them the two oldest are merged."""


class Disturbance(Protocol):
    """One kind."""

    name: str

    def run(self, progress: Progress) -> None:
        """Go on until the load has ended, and leave the union in order.  Any exception fails the load."""

    def figures(self) -> dict[str, int]:
        """How often what was done."""


class Commands:
    """Base of what is done by commands, one at a time.

    One that fails has failed for the load as well, unless a worker was killed meanwhile: then it was done or not."""

    name = ""
    _one_at_a_time = threading.Lock()

    def __init__(self, merged: Path, dice: random.Random, most: int, kills: Callable[[], int]) -> None:
        """``most``: operations of the clients between two of them; ``kills``: how many workers have been killed so far."""
        self._merged, self._dice, self._most = merged, dice, most
        self._kills = kills
        self.done = self._interrupted = 0

    def run(self, progress: Progress) -> None:
        while progress.wait_for(self._dice.randint(1, self._most)):
            with self._one_at_a_time:
                self._disturb()

    def figures(self) -> dict[str, int]:
        return {self.name: self.done, f"{self.name}, interrupted by a kill": self._interrupted}

    def _disturb(self) -> None:
        raise NotImplementedError

    def _command(self, *words: str | Path) -> None:
        """Run ``unionfs``.

        Raises:
            MountFailedError: it failed, and no worker had been killed.
        """
        before = self._kills()
        try:
            start_unionfs(words)
        except MountFailedError:
            if self._kills() == before:
                raise
            self._interrupted += 1
        else:
            self.done += 1


class Upgrades(Commands):
    """``unionfs restart``: a new worker in the place of one that does its work."""

    name = "upgrades"

    def _disturb(self) -> None:
        self._command("restart", self._merged)


class Snapshots(Commands):
    """Takes snapshots, and merges the oldest."""

    name = "snapshots"

    def __init__(self, merged: Path, dice: random.Random, most: int, kills: Callable[[], int]) -> None:
        super().__init__(merged, dice, most, kills)
        self._taken = 0

    def _disturb(self) -> None:
        self._taken += 1
        self._command("snapshot", "take", self._merged, f"taken-{self._taken}")
        names = [row["name"] for row in json.loads(start_unionfs(["snapshot", "ls", "--json", self._merged]))]
        if len(names) > KEPT_SNAPSHOTS:
            self._command("snapshot", "merge", self._merged, *names[:2])


class Layers(Commands):
    """Adds a lower layer, looks whether it shows, and removes it."""

    name = "changes of layers"

    def __init__(self, merged: Path, dice: random.Random, most: int, kills: Callable[[], int], directory: Path) -> None:
        """``directory``: where layers can be made."""
        super().__init__(merged, dice, most, kills)
        self._directory = directory
        self._made = 0

    def _disturb(self) -> None:
        self._made += 1
        name, content = f"added-{self._made}", self._dice.randbytes(1000)
        layer = self._directory / name
        (layer / name).mkdir(parents=True)
        (layer / name / "file").write_bytes(content)
        place = self._dice.choice(("--top", "--bottom"))
        while not self._is_there(layer):
            self._command("layers", self._merged, "add", place, layer)
        found = (self._merged / name / "file").read_bytes()
        if found != content:
            raise AssertionError(f"{name}/file of a layer just added: {len(found)} bytes that are not those written")
        wait_until(lambda: self._is_removed(layer), f"the removal of layer {layer}")
        if os.path.lexists(self._merged / name):
            raise AssertionError(f"{name} of a layer just removed is still there")

    def _is_there(self, layer: Path) -> bool:
        listed = json.loads(start_unionfs(["layers", self._merged, "list", "--json"]))
        return os.fspath(layer) in (row["path"] for row in listed)

    def _is_removed(self, layer: Path) -> bool:
        """Remove it; not yet where a file of it was open a moment ago, as the kernel tells of that later."""
        try:
            self._command("layers", self._merged, "remove", layer)
        except MountFailedError as refused:
            if "in use" not in str(refused) and "busy" not in str(refused):
                raise
        return not self._is_there(layer)
