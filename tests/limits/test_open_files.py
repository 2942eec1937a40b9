"""As many open files as the daemon may have, and more."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.behaviour.union import Mounted
from tests.mounts import UNIONFS, UnionfsBackend

from .mounted import daemon_of, mounting
from .scale import LOWERED_NOFILE

_FILES = LOWERED_NOFILE * 2


def test_daemon_raises_its_soft_limit_to_the_hard_one(unmounted_ours: Mounted) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        with mounting(unmounted_ours) as top:
            assert resource.prlimit(daemon_of(top), resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


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
