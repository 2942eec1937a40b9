"""A directory is in use where a namespace has it mounted, not where one has a copy of its surroundings."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import run, started
from unionfs.volumes.elsewhere import is_mounted_elsewhere


@contextlib.contextmanager
def namespace(script: str) -> Iterator[None]:
    """A process with mounts of its own, made by ``script``."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{script}\necho ready; exec sleep 600"]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        process.kill()
        process.wait()


@pytest.fixture(params=["directory", "mount"])
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The data of a volume: a directory, or something that is mounted."""
    directory = tmp_path / "volumes/data/_data"
    directory.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    if request.param == "mount":
        run(["mount", "-t", "tmpfs", "tmpfs", directory])
    (directory / "within").mkdir()
    yield directory
    if request.param == "mount":
        run(["umount", directory])


def test_nobody_has_it(data: Path) -> None:
    assert not is_mounted_elsewhere(data)


@pytest.mark.parametrize("what", ["", "/within"])
def test_container_has_it_or_a_part_of_it(data: Path, tmp_path: Path, what: str) -> None:
    with namespace(f"mount --bind {data}{what} {tmp_path}/other"):
        assert is_mounted_elsewhere(data)


def test_somebody_has_it_in_our_namespace(data: Path, tmp_path: Path) -> None:
    run(["mount", "--bind", data, tmp_path / "other"])
    try:
        assert is_mounted_elsewhere(data)
    finally:
        run(["umount", tmp_path / "other"])


def test_new_namespace_has_a_copy_only(data: Path) -> None:
    with namespace("true"):
        assert not is_mounted_elsewhere(data)


def test_container_that_sees_all_of_the_host_has_a_copy_only(data: Path, tmp_path: Path) -> None:
    with namespace(f"mount --rbind {tmp_path}/volumes {tmp_path}/other"):
        assert not is_mounted_elsewhere(data)


def test_neighbour_is_not_it(data: Path, tmp_path: Path) -> None:
    neighbour = tmp_path / "volumes/data2/_data"
    neighbour.mkdir(parents=True)
    with namespace(f"mount --bind {neighbour} {tmp_path}/other"):
        assert not is_mounted_elsewhere(data)
