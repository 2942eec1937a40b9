"""The lower layers of the differential tests: some made by hand, and some that are the uppers of kernel unions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.differential.player import Operation, Player
from tests.mounts import KERNEL


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
        _make_old(lower)
    return lowers


@dataclass(frozen=True)
class LayersOfUnions:
    """Makes lowers, top first, of which each but the bottom one is the upper of a kernel union over those below it.

    So they have whatever the kernel leaves in an upper under ``options``: whiteouts, opaque directories, redirects, metadata-only
    copies, origins.  ``changes``: what was done in each union, the lowest first; what fails there just did not happen.
    """

    options: tuple[str, ...]
    changes: tuple[list[Operation], ...]

    def __call__(self, top: Path) -> list[Path]:
        """Make them in ``top``."""
        lowers = build_layers(top)[-1:]
        for number, operations in enumerate(self.changes):
            lowers.insert(0, self._upper_of_union(top / f"union{number}", lowers, operations))
        return lowers

    def _upper_of_union(self, place: Path, lowers: list[Path], operations: list[Operation]) -> Path:
        upper, work, merged = place / "upper", place / "work", place / "merged"
        for directory in (upper, work, merged):
            directory.mkdir(parents=True)
        KERNEL.mount(lowers, upper, work, merged, self.options)
        player = Player(merged)
        for operation in operations:
            operation.play(player)
        player.let_go()
        KERNEL.umount(merged)
        _make_old(upper)
        return upper


def _make_old(lower: Path) -> None:
    for directory, directories, names in os.walk(lower, topdown=False):
        for name in (*names, *directories):
            os.utime(Path(directory, name), ns=(10**18, 10**18 + 5), follow_symlinks=False)
    os.utime(lower, ns=(10**18, 10**18 + 5))
