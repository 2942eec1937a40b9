"""Workloads that run programs: each does its work, in a directory and on the kernel's OverlayFS, and sees if it was not done."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.mounts import KERNEL
from tests.workloads.machine import make_rootfs
from unionfs.bench.errors import WrongResultError
from unionfs.bench.workload import Corpora, Place, Workload
from unionfs.bench.workloads import build, containers, debian, git, pip, sqlite

SCALE = 0.01

PlaceOf = Callable[[Workload, Corpora, Path], AbstractContextManager[Place]]

PROGRAMS = (
    *git.WORKLOADS,
    *build.WORKLOADS,
    *pip.WORKLOADS,
    *sqlite.WORKLOADS,
    # The root filesystem of tests/workloads: to make a smaller one would take longer than to copy this one.
    *debian.installations(lambda _: make_rootfs()),
    *containers.WORKLOADS,
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    return Corpora(tmp_path_factory.mktemp("corpora"), SCALE)


@contextmanager
def plain_place(workload: Workload, corpora: Corpora, top: Path) -> Iterator[Place]:
    place = new_place(corpora, top)
    for layer in reversed(workload.layers(corpora)):
        subprocess.run(["cp", "--archive", "--reflink=auto", f"{layer}/.", place.merged], check=True)
    yield place
    shutil.rmtree(place.merged)


@contextmanager
def kernel_place(workload: Workload, corpora: Corpora, top: Path) -> Iterator[Place]:
    place = new_place(corpora, top)
    (top / "upper").mkdir()
    (top / "work").mkdir()
    KERNEL.mount(workload.layers(corpora), top / "upper", top / "work", place.merged)
    try:
        yield place
    finally:
        KERNEL.umount(place.merged)


def new_place(corpora: Corpora, top: Path) -> Place:
    (top / "merged").mkdir()
    (top / "scratch").mkdir()
    return Place(top / "merged", top / "scratch", corpora)


@pytest.mark.parametrize(
    ("workload", "place_of"),
    [
        pytest.param(workload, place_of, id=f"{workload.name}-{place_of.__name__}")
        for place_of in (plain_place, kernel_place)
        for workload in PROGRAMS
        # Copying a root filesystem takes seconds; apt runs the same dpkg on it.
        if (workload.name, place_of) != ("dpkg-install", plain_place)
    ],
)
def test_work_is_found_done_only_after_it_was_done(
    workload: Workload, place_of: PlaceOf, corpora: Corpora, tmp_path: Path
) -> None:
    with place_of(workload, corpora, tmp_path) as place:
        workload.prepare(place)
        with pytest.raises(WrongResultError):
            workload.check(place)
        workload.run(place)
        workload.check(place)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(lambda corpora: git.WORKLOADS[0].layers(corpora)[0] / "repository/.git/objects", id="git"),
        pytest.param(lambda corpora: build.WORKLOADS[0].layers(corpora)[0], id="make"),
        pytest.param(lambda corpora: pip.new_wheel(corpora).parent, id="pip"),
        pytest.param(lambda corpora: sqlite.WORKLOADS[0].layers(corpora)[0], id="sqlite"),
        pytest.param(lambda corpora: debian.repository(corpora), id="debian"),
    ],
)
def test_input_is_the_same_bytes_each_time(layer: Callable[[Corpora], Path], tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (contents(layer(Corpora(tmp_path / name, SCALE))) for name in ("first", "second"))
    assert first
    assert first == second


def contents(directory: Path) -> dict[str, bytes]:
    """Path in ``directory`` → bytes, of all files in it."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
