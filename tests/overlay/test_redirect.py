"""Renamed directories with lower parts: redirects over remounts and through several layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.overlay.client import Client, build, stack
from unionfs.filesystem import ROOT_ID
from unionfs.overlay import Options, Stack, Union


def _reopened(client: Client, layers: Stack) -> Client:
    client.union.close()
    return Client(Union(layers))


def test_child_renamed_in_a_renamed_parent_and_then_moved_out_is_found_after_remount(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"dir/a": b"a", "dir/pop/b": b"b", "empty": None})
    client = Client(Union(layers))
    client.rename("dir/pop", "dir/popx")
    client.rename("dir", "dirx")
    client = _reopened(client, layers)
    client.rename("dirx/popx", "empty/popx")
    client = _reopened(client, layers)
    assert client.names("dirx") == [b"a"]
    assert client.names("empty/popx") == [b"b"]
    assert os.getxattr(tmp_path / "upper/empty/popx", "trusted.overlay.redirect") == b"/dir/pop"
    client.union.close()


def test_redirects_lead_through_every_layer_of_a_stack(tmp_path: Path) -> None:
    lowers = [build(tmp_path / "base", {"dir/a": b"a", "dir/pop/b": b"b", "empty": None})]
    moves = [
        ("dir/pop", "dir/popx"),
        ("dir", "dirx"),
        ("dirx/popx", "empty/popx"),
        ("empty", "dirx/full"),
        ("dirx/full/popx", "p"),
    ]
    for number, (old, new) in enumerate(moves):
        layers = Stack(tuple(lowers), build(tmp_path / f"upper{number}", {}), build(tmp_path / "work", {}))
        client = Client(Union(layers))
        client.rename(old, new)
        client.union.close()
        lowers.insert(0, tmp_path / f"upper{number}")
    client = Client(Union(Stack(tuple(lowers))))
    assert sorted(client.names("")) == [b"dirx", b"p"]
    assert client.read("p/b") == b"b"
    assert sorted(client.names("dirx")) == [b"a", b"full"]
    assert client.names("dirx/full") == []
    client.union.close()


def test_redirect_longer_than_the_kernel_accepts_is_exdev(tmp_path: Path) -> None:
    deep = "/".join(["d" * 60] * 5)
    layers = stack(tmp_path, {f"{deep}/x/f": b"", "e": None})
    client = Client(Union(layers))
    with pytest.raises(OSError, match="cross-device"):
        client.rename(f"{deep}/x", "e/x")
    assert client.names(f"{deep}/x") == [b"f"]
    client.union.close()


@pytest.mark.parametrize("value", [b"a/b", b"//", b"/a//b", b"/a/", b"..", b"/../etc"])
def test_malformed_redirect_is_refused(tmp_path: Path, value: bytes) -> None:
    layers = stack(tmp_path, {"d/f": b""}, {"etc/passwd": b""})
    os.setxattr(tmp_path / "lower0/d", "trusted.overlay.redirect", value)
    client = Client(Union(layers))
    with pytest.raises(OSError, match="redirect"):
        client.node("d")
    client.union.close()


def test_redirects_are_followed_but_not_written_with_redirect_dir_off(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/f": b"", "g/h": b""})
    client = Client(Union(layers))
    client.rename("d", "moved")
    client.union.close()
    client = Client(Union(layers, Options(redirect_dir="off")))
    assert client.names("moved") == [b"f"]
    with pytest.raises(OSError, match="cross-device"):
        client.rename("g", "gone")
    client.union.close()
    client = Client(Union(layers, Options(redirect_dir="nofollow")))
    assert client.names("moved") == []
    client.union.close()


def test_listing_without_lookups_tells_the_number_of_the_lower_part_of_a_renamed_directory(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"dir/f": b"f"})
    client = Client(Union(layers))
    number = client.attr("dir").ino
    client.rename("dir", "moved")
    client = _reopened(client, layers)
    listed = {row.name: row.ino for row in client.call(lambda: list(client.union.readdir(ROOT_ID, 0)))}
    assert listed[b"moved"] == client.attr("moved").ino == number
    client.union.close()
