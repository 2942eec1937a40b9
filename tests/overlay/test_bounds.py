"""What does not grow: descriptors, the node table, the cost of a lookup."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client
from tests.overlay.conftest import Open
from unionfs.filesystem import ROOT_ID, SET_MODE, Changes
from unionfs.overlay import tree as tree_module


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_walk_of_many_directories_keeps_to_the_limit_of_descriptors(open_union: Open) -> None:
    client = open_union({f"{first}/{second}/f": b"x" for first in range(20) for second in range(20)}, pool_limit=50)
    before = _open_descriptors()
    for first in range(20):
        for second in range(20):
            assert client.read(f"{first}/{second}/f") == b"x"
            # A single operation may go over the limit by what it opens itself.
            assert _open_descriptors() <= before + 55


def test_closed_directories_deeper_than_pythons_stack_are_opened_again(
    open_union: Open, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    client = open_union({}, pool_limit=4)
    # pytest removes its directories by recursion, which ends at the same depth.
    request.addfinalizer(lambda: subprocess.run(["rm", "-r", tmp_path / "upper/d"], check=True))
    node, depth = ROOT_ID, 1200
    for _ in range(depth):
        node = client.union.mkdir(node, b"d", 0o755, ROOT).node
        client.union.lookup(ROOT_ID, b"nothing")
    assert client.union.create(node, b"f", os.O_RDWR, 0o644, ROOT)[0].attr.size == 0


def test_forgotten_inodes_leave_the_table(open_union: Open) -> None:
    client = open_union({f"d{i}/f{j}": b"" for i in range(10) for j in range(10)})
    before = client.union.statistics()["inodes"]
    lookups: dict[int, int] = {}
    for row in _walk(client, ROOT_ID):
        lookups[row] = lookups.get(row, 0) + 1
    assert client.union.statistics()["inodes"] == before + 110
    for node, nlookup in lookups.items():  # parents are forgotten before their children here
        client.union.forget(node, nlookup)
    assert client.union.statistics()["inodes"] == before
    assert client.union.statistics()["open_files"] == 0


@pytest.mark.parametrize("names", [("d/e/a", "d/e/b"), ("d/a", "d/e/b"), ("d/e/a", "d/b"), ("d/e/a", "d/g/b")])
def test_forgotten_file_with_several_names_takes_its_directories_along(open_union: Open, names: tuple[str, str]) -> None:
    client = open_union({"d/e/x": b"", "d/g/x": b""})
    one, other = names
    before = client.union.statistics()["inodes"]
    client.write(one, b"data")
    client.call(client.union.link, client.node(one), *client.place(other))
    nodes = [client.node(path) for path in ("d", "d/e", "d/g", one)]
    for node in nodes:  # the file last
        client.union.forget(node, 1000)
    assert client.union.statistics()["inodes"] == before


def _walk(client: Client, node: int) -> list[int]:
    found: list[int] = []
    for row in client.union.readdirplus(node, 0):
        if row.entry is not None:
            found.append(row.entry.node)
            if row.kind == 4:
                found.extend(_walk(client, row.entry.node))
    return found


def test_known_file_takes_less_than_500_bytes(open_union: Open) -> None:
    directories, files = 20, 100
    client = open_union({f"d{i}/file-number-{j:05d}.txt": b"" for i in range(directories) for j in range(files)})
    tracemalloc.start()
    try:
        nodes = _walk(client, ROOT_ID)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(nodes) == directories * (files + 1)
    assert taken < 500 * len(nodes)


def test_plain_listing_leaves_no_inodes_behind(open_union: Open) -> None:
    client = open_union({"d/a": b"", "e": b""}, {"d/b": b""})
    client.chmod("d/a", 0o600)
    client.union.forget(client.node("d"), 3)
    before = client.union.statistics()["inodes"]
    assert sorted(client.names("")) == [b"d", b"e"]
    assert client.union.statistics()["inodes"] == before


@pytest.mark.parametrize("layers", [1, 500])
def test_lookup_costs_one_stat_whatever_the_number_of_layers(
    open_union: Open, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    client = open_union(*({f"f{index}": b"", "d/g": b""} for index in range(layers)), writable=False)
    client.union.lookup(ROOT_ID, b"nothing")
    calls: list[object] = []
    real_stat = os.stat
    monkeypatch.setattr(tree_module.os, "stat", lambda *args, **options: (calls.append(args), real_stat(*args, **options))[1])
    assert client.union.lookup(ROOT_ID, b"f%d" % (layers - 1)) is not None
    assert len(calls) == 1
    assert client.union.lookup(ROOT_ID, b"nothing else") is None
    assert len(calls) == 1


def test_close_gives_every_descriptor_back(open_union: Open) -> None:
    before = _open_descriptors()
    client = open_union({"d/f": b"lower", "g": b""}, {"d/h": b""})
    client.write("d/f", b"x")
    client.write("new", b"x")
    client.node("new")
    client.unlink("new")
    client.union.close()
    assert _open_descriptors() == before


@pytest.mark.parametrize("change", ["setattr", "setxattr", "link", "rename", "mkdir", "write"])
def test_changes_of_many_lower_objects_keep_to_the_limit_of_descriptors(open_union: Open, change: str) -> None:
    client = open_union({f"d{number}/f": b"x" for number in range(200)}, pool_limit=20)
    union, call = client.union, client.call
    places = [(client.node(f"d{number}"), client.node(f"d{number}/f")) for number in range(200)]
    before = _open_descriptors()
    for parent, node in places:
        match change:
            case "setattr":
                call(union.setattr, node, Changes(SET_MODE, mode=0o600), ROOT)
            case "setxattr":
                call(union.setxattr, node, b"user.x", b"", 0)
            case "link":
                call(union.link, node, parent, b"g")
            case "rename":
                call(union.rename, parent, b"f", parent, b"g", 0)
            case "mkdir":
                call(union.mkdir, parent, b"g", 0o755, ROOT)
            case _:
                call(union.write, node, 0, b"y")
        assert _open_descriptors() <= before + 25
