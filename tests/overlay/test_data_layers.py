"""Data-only layers together with what else a union keeps of a file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from tests.overlay.client import Client, build, stack
from unionfs.overlay import Options, Stack, Union

DATA = b"data" * 1000


@pytest.fixture
def layers(tmp_path: Path) -> Stack:
    """A lower with a file of two names, whose data is in a data-only layer."""
    lower = stack(tmp_path, {"d": None}).lowers[0]
    (lower / "f").touch()
    os.truncate(lower / "f", len(DATA))
    os.setxattr(lower / "f", "trusted.overlay.metacopy", b"")
    os.setxattr(lower / "f", "trusted.overlay.redirect", b"/sub/data")
    os.link(lower / "f", lower / "d/linked")
    return dataclasses.replace(stack(tmp_path, {}), data=(build(tmp_path / "data", {"sub/data": DATA}),))


@pytest.mark.parametrize("metacopy", [False, True])
def test_names_of_one_file_stay_names_of_one_file(layers: Stack, metacopy: bool) -> None:
    for mode in (0o600, 0o640):
        client = Client(Union(layers, Options(metacopy=metacopy, index="on")))
        client.chmod("d/linked", mode)
        assert client.attr("f").mode & 0o777 == mode
        assert client.read("f") == client.read("d/linked") == DATA
        client.union.close()
    client = Client(Union(layers, Options(metacopy=metacopy, index="on")))
    client.write("f", b"new")
    assert client.read("d/linked") == b"new" + DATA[3:]
    client.union.close()


def test_data_is_not_looked_for_before_it_is_read(layers: Stack, tmp_path: Path) -> None:
    client = Client(Union(layers))
    assert client.attr("f").size == len(DATA)
    (tmp_path / "data/sub/data").rename(tmp_path / "data/sub/late")
    with pytest.raises(FileNotFoundError):
        client.read("f")
    (tmp_path / "data/sub/late").rename(tmp_path / "data/sub/data")
    assert client.read("f") == DATA
    assert client.union.explain(b"f")["data"] == {"layer": "data[0]", "real_path": str(tmp_path / "data/sub/data")}
    client.union.close()


def test_directories_of_data_only_layers_are_closed_with_the_pool(layers: Stack, tmp_path: Path) -> None:
    for number in range(40):
        directory = build(tmp_path / f"data/{number}", {"data": b"%d" % number})
        path = tmp_path / f"lower0/n{number}"
        path.write_bytes(bytes((directory / "data").stat().st_size))
        os.setxattr(path, "trusted.overlay.metacopy", b"")
        os.setxattr(path, "trusted.overlay.redirect", b"/%d/data" % number)
    client = Client(Union(layers, pool_limit=8))
    for _ in range(2):
        for number in range(40):
            assert client.read(f"n{number}") == b"%d" % number
    assert client.union.statistics()["open_files"] <= 16
    client.union.close()
