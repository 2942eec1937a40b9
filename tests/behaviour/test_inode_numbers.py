"""Inode numbers where the layers lie on four filesystems, with ``xino=on``: unique, and the same over copy-up, rename and
remount, in stat(2) as in readdir(3)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import Backend

from .layers import Symlink, Tree
from .union import Layers, Mounted, Union

TOP: Tree = {
    "merged/top": b"top",
    "merged/inner/f": b"f",
    "top-only/a": b"a",
    "top-only/deep/er/b": b"b",
    "link": Symlink("merged"),
}
MIDDLE: Tree = {"merged/middle": b"middle", "merged/inner/g": b"g", "middle-only/m": b"m"}
BOTTOM: Tree = {
    "merged/bottom": b"bottom",
    "merged/inner/h": b"h",
    "bottom-only/c": b"c",
    "bottom-only/sub/d": b"d",
    "empty-below/e": b"e",
}
UPPER: Tree = {"merged/upper": b"upper", "upper-only/u": b"u"}


@pytest.fixture
def spread(backend: Backend, tmp_path: Path) -> Iterator[Union]:
    """A union of three lowers, each a filesystem of its own, under an upper on a fourth."""
    # Same numbers on all of them: a tmpfs counts from 1.
    mounted = Mounted(backend, tmp_path, lower_count=3, options=("redirect_dir=on", "xino=on"))
    for lower in mounted.lowers:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", lower], check=True)
    union = Union.in_mount(mounted, Layers.of_marker([TOP, MIDDLE, BOTTOM], upper=UPPER))
    mounted.mount()
    yield union
    mounted.umount()
    assert union.changed_in_lowers() == []
    for lower in mounted.lowers:
        subprocess.run(["umount", lower], check=True)


def numbers(union: Union) -> dict[str, int]:
    """st_ino of everything, by path."""
    return {os.fspath(path.relative_to(union.merged)): path.lstat().st_ino for path in union.merged.rglob("*")}


def listed_numbers(union: Union) -> dict[str, int]:
    """d_ino of everything, by path, taken before anything is looked at by name."""
    found = {}
    waiting = [union.merged]
    while waiting:
        directory = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                found[os.fspath(Path(entry.path).relative_to(union.merged))] = entry.inode()
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return found


def test_numbers_are_unique_and_all_on_one_device(spread: Union) -> None:
    shown = numbers(spread)
    assert len(set(shown.values())) == len(shown)
    assert {path.lstat().st_dev for path in spread.merged.rglob("*")} == {spread.merged.stat().st_dev}


def test_numbers_are_the_same_after_remount_whatever_is_looked_at_first(spread: Union) -> None:
    expected = numbers(spread)
    for first in ("middle-only/m", "bottom-only/c", "top-only/a"):
        spread.remount()
        (spread.merged / first).stat()
        assert numbers(spread) == expected


def change(merged: Path) -> dict[str, str]:
    """Copies up files and directories of every layer, and moves some; returns what was moved where."""
    for name in ("merged/top", "merged/middle", "merged/bottom", "bottom-only/c", "top-only/deep/er/b"):
        (merged / name).chmod(0o600)
    for name in ("merged", "merged/inner", "bottom-only"):
        (merged / name).chmod(0o700)
    os.utime(merged / "link", ns=(1, 1), follow_symlinks=False)
    moves = {
        "merged/inner/g": "upper-only/g",
        "top-only/deep": "upper-only/deep",
        "bottom-only/sub": "merged/sub",
        "link": "merged/link",
        "merged": "moved",
        "empty-below": "moved/inner/below",
    }
    for old, new in moves.items():
        (merged / old).rename(merged / new)
    return moves


def renamed(numbers: dict[str, int], moves: dict[str, str]) -> dict[str, int]:
    """``numbers`` with every path as it is after the moves."""
    for old, new in moves.items():
        numbers = {
            new + path.removeprefix(old) if path == old or path.startswith(old + "/") else path: number
            for path, number in numbers.items()
        }
    return numbers


def test_numbers_are_the_same_over_copy_up_and_rename(spread: Union) -> None:
    expected = numbers(spread)
    expected = renamed(expected, change(spread.merged))
    assert numbers(spread) == expected
    spread.remount()
    assert numbers(spread) == expected


def test_listings_tell_the_numbers_of_stat(spread: Union) -> None:
    assert listed_numbers(spread) == numbers(spread)
    change(spread.merged)
    assert listed_numbers(spread) == numbers(spread)
    spread.remount()
    listed = listed_numbers(spread)
    assert listed == numbers(spread)
