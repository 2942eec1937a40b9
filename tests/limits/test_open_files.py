"""As many open files as the daemon may have, and more."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.behaviour.union import Mounted
from tests.mounts import UNIONFS, UnionfsBackend

from .mounted import daemon_of, mounting
from .processes import run_at_once
from .scale import LOWERED_NOFILE, OPEN_FILES

_FILES = LOWERED_NOFILE * 2


def test_daemon_raises_its_soft_limit_to_the_hard_one(unmounted_ours: Mounted) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        with mounting(unmounted_ours) as top:
            assert resource.prlimit(daemon_of(top), resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_very_many_files_are_open_at_a_time(unmounted: Mounted) -> None:
    """By two processes: one may not have so many."""
    for number in range(0, OPEN_FILES, 2):
        (unmounted.lowers[0] / f"f{number}").write_bytes(b"%d" % number)
    with mounting(unmounted) as top:
        all_open = multiprocessing.Barrier(2)
        run_at_once([lambda half=half: _use(top, range(half, OPEN_FILES, 2), all_open) for half in range(2)])  # type: ignore[misc]
        for number in range(OPEN_FILES):
            assert (top / f"f{number}").read_bytes()[:1] == b"w"


def _use(top: Path, numbers: range, all_open: Barrier) -> None:
    """Every second file is there, in the lower."""
    opened = [(number, os.open(top / f"f{number}", os.O_RDWR | os.O_CREAT)) for number in numbers]
    all_open.wait()
    for number, fd in opened:
        assert os.pread(fd, 20, 0) == (b"" if number % 2 else b"%d" % number)
        assert os.pwrite(fd, b"w", 0) == 1
        assert os.pread(fd, 1, 0) == b"w"
    all_open.wait()


@pytest.mark.parametrize("kind", ["lower", "new"])
def test_more_open_files_than_the_daemon_has_descriptors_are_served(unmounted_ours: Mounted, kind: str) -> None:
    for number in range(_FILES):
        (unmounted_ours.lowers[0] / f"lower{number}").write_bytes(b"%d" % number)
    with _mounting_with_few_descriptors(unmounted_ours) as top:
        assert resource.prlimit(daemon_of(top), resource.RLIMIT_NOFILE) == (LOWERED_NOFILE, LOWERED_NOFILE)
        opened: list[tuple[int, int]] = []
        try:
            for number in range(_FILES):
                opened.append((number, os.open(top / f"{kind}{number}", os.O_RDWR | os.O_CREAT)))
            for number, fd in opened:
                assert os.pread(fd, 20, 0) == (b"%d" % number if kind == "lower" else b"")
                assert os.pwrite(fd, b"w", 0) == 1
        finally:
            for _, fd in opened:
                os.close(fd)
        for number in range(_FILES):
            assert (top / f"{kind}{number}").read_bytes()[:1] == b"w"


def test_daemon_whose_limit_is_lowered_while_it_has_files_open_goes_on(unmounted_ours: Mounted) -> None:
    for number in range(_FILES):
        (unmounted_ours.lowers[0] / f"lower{number}").write_bytes(b"%d" % number)
    with mounting(unmounted_ours) as top:
        for number in range(_FILES):
            with (top / f"lower{number}").open("rb+", buffering=0) as file:
                file.write(b"w")
        resource.prlimit(daemon_of(top), resource.RLIMIT_NOFILE, (LOWERED_NOFILE, LOWERED_NOFILE))
        for number in range(_FILES):
            (top / f"new{number}").write_bytes(b"new")
            assert (top / f"lower{number}").read_bytes()[:1] == b"w"
        (top / "directory").mkdir()
        assert len(os.listdir(top)) == 2 * _FILES + 1


@contextmanager
def _mounting_with_few_descriptors(union: Mounted) -> Iterator[Path]:
    """The daemon inherits the limits of the command."""
    assert isinstance(union.backend, UnionfsBackend)
    limit = f"--nofile={LOWERED_NOFILE}:{LOWERED_NOFILE}"
    layers = ("-l", union.lowers[0], "-u", union.upper, "-w", union.work)
    subprocess.run(["prlimit", limit, UNIONFS, "mount", *union.backend.arguments, *layers, union.merged], check=True, timeout=60)
    try:
        yield union.merged
    finally:
        union.umount()
