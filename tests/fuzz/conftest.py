"""Where fuzzing tests may do damage: a small filesystem in memory, which nothing they write can fill beyond its size."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unionfs.linux.mount import MNT_DETACH, mount, umount

SIZE = "64m"


@pytest.fixture(scope="module")
def new_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Makes a new directory at each call, in a filesystem that goes with the module.  At the next call its content goes, so that
    each example has the same room; with ``keep`` it stays."""
    place = tmp_path_factory.mktemp("fuzz")
    mount(b"fuzz", bytes(place), b"tmpfs", 0, f"size={SIZE},mode=700".encode())
    numbers = itertools.count()
    passing: list[Path] = []

    umask = os.umask(0o022)

    def make(keep: bool = False) -> Path:
        os.umask(0o022)  # a union leaves that of whoever asked last
        while passing:
            shutil.rmtree(passing.pop())
        directory = place / str(next(numbers))
        directory.mkdir()
        if not keep:
            passing.append(directory)
        return directory

    yield make
    os.umask(umask)
    umount(bytes(place), MNT_DETACH)
