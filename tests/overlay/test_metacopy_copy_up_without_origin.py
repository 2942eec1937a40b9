"""Metadata-only copies that have no origin, because the lower file has several names: found in directories without a mark."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.overlay.client import stack
from tests.overlay.test_metacopy import kernel_mount, opened
from unionfs.overlay import Options, Stack

METACOPY = Options(metacopy=True)
DATA = b"lower data " * 10

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's unions, and trusted. attributes, need root")


@pytest.fixture
def layers(tmp_path: Path) -> Stack:
    layers = stack(tmp_path, {"d/f": DATA, "e": None})
    (tmp_path / "lower0/d/g").hardlink_to(tmp_path / "lower0/d/f")
    return layers


def below(layers: Stack, tmp_path: Path) -> Stack:
    """The upper as the topmost lower of another union."""
    assert layers.upper is not None
    for name in ("upper2", "work2"):
        (tmp_path / name).mkdir()
    return Stack((layers.upper, *layers.lowers), tmp_path / "upper2", tmp_path / "work2")


def is_marked(directory: Path) -> bool:
    return "trusted.overlay.impure" in os.listxattr(directory)


def changed_in_place(merged: Path) -> None:
    (merged / "d/f").chmod(0o600)


def moved(merged: Path) -> None:
    (merged / "d/f").rename(merged / "e/f")


def linked(merged: Path) -> None:
    (merged / "d/f").chmod(0o600)
    (merged / "e/f").hardlink_to(merged / "d/f")


CHANGES = [
    pytest.param(changed_in_place, "d/f", id="changed"),
    pytest.param(moved, "e/f", id="moved"),
    pytest.param(linked, "e/f", id="linked"),
]


@pytest.mark.parametrize(("change", "path"), CHANGES)
def test_upper_of_the_kernel_shows_its_data(layers: Stack, tmp_path: Path, change: Callable[[Path], None], path: str) -> None:
    with kernel_mount(layers, tmp_path / "merged") as merged:
        change(merged)
    with opened(layers) as client:
        assert client.read(path) == DATA
        client.write(path, b"L")
        assert client.read(path) == b"L" + DATA[1:]


@pytest.mark.parametrize(("change", "path"), CHANGES)
def test_lower_that_was_an_upper_of_the_kernel_shows_its_data(
    layers: Stack, tmp_path: Path, change: Callable[[Path], None], path: str
) -> None:
    with kernel_mount(layers, tmp_path / "merged") as merged:
        change(merged)
    with opened(below(layers, tmp_path)) as client:
        assert client.read(path) == DATA
        client.chmod(path, 0o640)
    with opened(below_again(layers, tmp_path)) as client:
        assert client.read(path) == DATA


def below_again(layers: Stack, tmp_path: Path) -> Stack:
    assert layers.upper is not None
    return Stack((layers.upper, *layers.lowers), tmp_path / "upper2", tmp_path / "work2")


def test_copy_up_marks_the_directory_of_a_copy_without_origin(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
    assert is_marked(tmp_path / "upper/d")
    with opened(layers) as client:
        assert client.read("d/f") == DATA


def test_rename_marks_the_new_directory_of_a_copy_without_origin(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.rename("d/f", "e/f")
    assert is_marked(tmp_path / "upper/e")
    with opened(layers) as client:
        assert client.read("e/f") == DATA


def test_link_marks_the_directory_of_the_new_name(layers: Stack, tmp_path: Path) -> None:
    with opened(layers) as client:
        client.chmod("d/f", 0o600)
        client.call(client.union.link, client.node("d/f"), *client.place("e/f"))
    assert is_marked(tmp_path / "upper/e")
    with opened(layers) as client:
        assert client.read("e/f") == DATA
