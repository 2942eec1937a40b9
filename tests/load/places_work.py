"""Directories in unusual places: as deep as a path can tell, and removed while they are somebody's current one."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

from tests.differential.player import Operation
from tests.load.work import weighted

_NAME = "n" * 200
_DEPTH = 16
"""Levels of names of 200 bytes: little less than PATH_MAX, so that the trees can be compared by paths in the end."""
_HELD = 3


class PlacesWork:
    """Works in ``places``."""

    def __init__(self, top: Path) -> None:
        self._directory = top / "places"
        self._removed: list[int] = []
        self._made = 0
        self._depth = 0

    def draw(self, dice: random.Random) -> list[Operation]:
        choices = [
            (4, Operation("deepen", ())),
            (1, Operation("remove_deep", ())),
            (2, Operation("rename_deep", ())),
            (3, Operation("write_deep", (dice.randbytes(100),))),
            (4, Operation("read_deep", ())),
            (2, Operation("hold_removed", ())),
            (3, Operation("use_removed", (dice.randrange(_HELD),))),
        ]
        return [weighted(dice, choices)]

    def end(self) -> None:
        while self._removed:
            os.close(self._removed.pop())

    # -- deep -----------------------------------------------------------------------------------------------------

    def deepen(self) -> int:
        """Four more levels, until it is deep."""
        fd = self._deepest()
        try:
            for _ in range(4 if self._depth < _DEPTH else 0):
                os.mkdir(_NAME, dir_fd=fd)
                fd = _down(fd)
                self._depth += 1
        finally:
            os.close(fd)
        return self._depth

    def write_deep(self, data: bytes) -> None:
        fd = self._deepest()
        try:
            file = os.open("file", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644, dir_fd=fd)
            os.write(file, data)
            os.close(file)
        finally:
            os.close(fd)

    def read_deep(self) -> bytes:
        fd = self._deepest()
        try:
            file = os.open("file", os.O_RDONLY, dir_fd=fd)
            content = os.pread(file, 1 << 16, 0)
            os.close(file)
            return content
        finally:
            os.close(fd)

    def rename_deep(self) -> None:
        """Away and back: with a lower part it gets a redirect."""
        if self._depth:
            os.rename(self._directory / _NAME, self._directory / "away")
            os.rename(self._directory / "away", self._directory / _NAME)

    def remove_deep(self) -> list[int]:
        """From the bottom, as rm -r does; how many names each level had."""
        counts = []
        while True:
            parent = self._at(self._depth)
            names = os.listdir(parent)
            counts.append(len(names))
            for name in names:
                (os.rmdir if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode) else os.unlink)(name, dir_fd=parent)
            os.close(parent)
            if self._depth == 0:
                return counts
            self._depth -= 1

    def _deepest(self) -> int:
        return self._at(self._depth)

    def _at(self, depth: int) -> int:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for _ in range(depth):
                fd = _down(fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    # -- removed --------------------------------------------------------------------------------------------------

    def hold_removed(self) -> None:
        """Open a directory that is removed then."""
        path = self._directory / f"removed{self._made}"
        self._made += 1
        path.mkdir()
        self._removed.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        path.rmdir()
        if len(self._removed) > _HELD:
            os.close(self._removed.pop(0))

    def use_removed(self, number: int) -> list[object]:
        """Make it the current directory, and try what there is to be done in one."""
        if not self._removed:
            return []
        os.chdir(self._removed[number % len(self._removed)])
        try:
            return [
                _errno(os.getcwd),
                _errno(lambda: os.listdir(".")),
                _errno(lambda: os.mkdir("directory")),
                _errno(lambda: os.open("file", os.O_CREAT | os.O_WRONLY)),
                _errno(lambda: os.stat(".").st_nlink),
                _errno(lambda: os.stat("file")),
            ]
        finally:
            os.chdir("/")


def _down(fd: int) -> int:
    """The next level instead of ``fd``, which stays open if there is none."""
    below = os.open(_NAME, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    os.close(fd)
    return below


def _errno(operation: Callable[[], object]) -> object:
    try:
        return operation()
    except OSError as error:
        return f"errno {error.errno}"
