"""The union that a load works in, the plain directory beside it, and the layers: made, mounted, compared."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

from tests.behaviour.tree import Snapshot, differences
from tests.differential.lowers import build_layers
from tests.load.names_work import comparable
from tests.load.programs_work import PROGRAM
from tests.mounts import UNIONFS, MountFailedError, is_mounted, mounts_under, start_unionfs, tear_down
from tests.programs import describe, run

DATA_PATHS = ("passthrough", "cached")

_OLD_NS = (10**18, 10**18 + 5)
_LARGEST = 60_000
_LINKS = ((0, "a/b", "b/d"), (1, "d/d", "d/c"))
"""Hard links in the lowers, by layer.  None has a name that a higher layer hides: those count in a union, as in OverlayFS."""


class World:
    """All directories, under ``top``, which must have room and extended attributes.

    Each client has a part of its own, ``part-N``.  All parts are alike: small trees with the same few names in three lowers, with
    whiteouts, opaque directories and hard links; files to be written and read; a large directory; a program."""

    def __init__(self, top: Path, data_path: str, clients: int, scale: int, options: tuple[str, ...] = ()) -> None:
        """``scale``: of how many small trees a part is made; the number of its files goes with it."""
        self.merged, self.plain = top / "merged", top / "plain"
        self._top, self._upper = top, top / "upper"
        self._data_path = data_path
        self._options = ("redirect_dir=on", "index=on", *options)
        self._lowers = [top / f"lower{number}" for number in range(3)]
        self.parts = [f"part-{number}" for number in range(clients)]
        for directory in (self.merged, self.plain, self._upper, *self._lowers):
            directory.mkdir()
        self._build(scale)
        self._before = [Snapshot.of(lower, exact=True) for lower in self._lowers]

    @property
    def readers_may_lag(self) -> bool:
        """Whether what is open for reading keeps lower data (docs/deviations.md, reader-keeps-lower-data)."""
        return self._data_path == "passthrough"

    def mount(self) -> None:
        """Mount it.  Raises `tests.mounts.MountFailedError`."""
        options = ["--data-path", self._data_path, "-o", ",".join(self._options)]
        start_unionfs(["mount", *options, *self._layer_words(), "-u", self._upper, self.merged])

    def umount(self) -> None:
        """Unmount it.  Raises `tests.mounts.MountFailedError`."""
        start_unionfs(["umount", self.merged])

    def close(self) -> None:
        """Let nothing be mounted, by force if need be."""
        if is_mounted(self.merged):
            try:
                self.umount()
            except MountFailedError:
                self.abort()

    def abort(self) -> None:
        """Take the mount away by force: all who wait for it get an error."""
        for mount in mounts_under(self._top):
            tear_down(mount)

    def copy(self) -> None:
        """Make the plain directory what the union is."""
        for number, part in enumerate(self.parts):
            source = self.merged / part if number == 0 else self.plain / self.parts[0]
            _copy(source, self.plain / part)

    def differences(self) -> list[str]:
        """How the mounted union differs from the plain directory, all parts."""
        return [
            f"{part}: {line}"
            for part in self.parts
            for line in differences(*(comparable(Snapshot.of(top / part)) for top in (self.plain, self.merged)))
        ]

    def problems(self) -> list[str]:
        """What is wrong with the layers when nothing is mounted: findings of ``unionfs check``, and changes of lowers."""
        command = [UNIONFS, "check", *self._layer_words(), self._upper]
        checked = run(command, status=None)
        found = [describe(command, checked)] if checked.status else []
        for before, lower in zip(self._before, self._lowers, strict=True):
            found += [f"{lower.name} has changed: {line}" for line in differences(before, Snapshot.of(lower, exact=True))]
        return found

    def _layer_words(self) -> list[str | Path]:
        return [word for lower in self._lowers for word in ("-l", lower)]

    # -- layers ---------------------------------------------------------------------------------------------------

    def _build(self, scale: int) -> None:
        first = [lower / self.parts[0] for lower in self._lowers]
        pattern = build_layers(self._top / "pattern")
        for lower, tree in zip(first, pattern, strict=True):
            for number in range(scale):
                _copy(tree, lower / f"trees/tree-{number}", "--no-preserve=links")
        for number in range(scale):
            for layer, old, new in _LINKS:
                os.link(*(first[layer] / f"trees/tree-{number}" / name for name in (old, new)))
        shutil.rmtree(self._top / "pattern")
        dice = random.Random(0)  # noqa: S311 - the same layers each time
        base = first[-1]
        _fill(base / "files", 10 * scale, dice)
        _fill(base / "read", 5 * scale, dice)
        _fill(first[0] / "read", 2 * scale, dice)
        for directory in ("many", "made", "places", "database", "programs"):
            (base / directory).mkdir()
        for number in range(100 + 10 * scale):
            (base / f"many/name{number}").touch()
        program = shutil.which(PROGRAM)
        assert program is not None
        shutil.copy(os.path.realpath(program), base / f"programs/{PROGRAM}")
        for lower in self._lowers:
            for part in self.parts[1:]:
                _copy(lower / self.parts[0], lower / part)


def _copy(source: Path, target: Path, *options: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", *options, source, target], check=True)


def _fill(directory: Path, count: int, dice: random.Random) -> None:
    directory.mkdir(parents=True)
    for number in range(count):
        path = directory / f"{number}"
        path.write_bytes(dice.randbytes(dice.choice((0, 100, 5000, _LARGEST))))
        os.utime(path, ns=_OLD_NS)
