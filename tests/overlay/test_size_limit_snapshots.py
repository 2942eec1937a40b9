"""An accounted size limit and snapshots: the limit is that of the new upper; what is open counts where it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.overlay.client import Client, stack
from unionfs.overlay import LimitedUnion, Options

LIMIT = 1 << 20
LOWER: dict[str, bytes | None] = {"big": b"b" * 300_000, "dir/file": b"f" * 5000}


@pytest.fixture(
    params=[Options(), Options(userxattr=True), Options(index="on")], ids=["trusted xattrs", "user xattrs", "with an index"]
)
def client(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    union = LimitedUnion(stack(tmp_path, LOWER), request.param, LIMIT)
    yield Client(union)
    union.close()


def used(client: Client) -> int:
    return client.union.statistics()["size_used"]


def occupied(tmp_path: Path) -> int:
    seen = {}
    for top in ("upper", "work/index"):
        for directory, _, files in os.walk(tmp_path / top):
            for path in (directory, *(os.path.join(directory, name) for name in files)):
                st = os.lstat(path)
                seen[st.st_ino] = st.st_blocks * 512
    return sum(seen.values())


def fill(client: Client, name: str) -> int:
    """Write until there is no room; how much was written."""
    client.write(name, b"")
    node, written = client.node(name), 0
    while True:
        try:
            written += client.call(client.union.write, node, written, b"w" * 65536)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return written


def test_full_upper_is_empty_again_after_a_snapshot(client: Client, tmp_path: Path) -> None:
    fill(client, "new")
    assert used(client) > LIMIT - 8192
    client.union.prepare_snapshot("one").take()
    assert used(client) == occupied(tmp_path) < 16384
    assert fill(client, "other") > LIMIT - 65536 - 16384
    assert LIMIT >= used(client) == occupied(tmp_path)


def test_copy_up_out_of_the_snapshot_takes_room_anew(client: Client, tmp_path: Path) -> None:
    client.write("big", b"changed")
    client.union.prepare_snapshot("one").take()
    client.write("big", b"again")
    assert used(client) == occupied(tmp_path) >= 300_000
    client.union.prepare_snapshot("two").take()
    assert used(client) == occupied(tmp_path) < 16384


def test_open_file_without_a_name_counts_after_a_snapshot(client: Client, tmp_path: Path) -> None:
    client.write("new", b"n" * 100_000)
    node = client.node("new")
    client.unlink("new")
    client.union.prepare_snapshot("one").take()
    assert used(client) >= occupied(tmp_path) + 100_000
    client.union.forget(node, 100)
    assert used(client) == occupied(tmp_path)


def test_file_being_written_goes_on_under_the_limit(client: Client, tmp_path: Path) -> None:
    client.write("new", b"n" * 100_000)
    node = client.node("new")
    client.union.prepare_snapshot("one").take()
    assert client.call(client.union.write, node, 100_000, b"m" * 50_000) == 50_000
    assert used(client) == occupied(tmp_path) >= 150_000
    assert client.read("new") == b"n" * 100_000 + b"m" * 50_000
    with pytest.raises(OSError, match="No space"):
        client.call(client.union.fallocate, node, 0, LIMIT, 0)
    assert used(client) == occupied(tmp_path)


def test_refused_snapshot_leaves_the_count_as_it_was(client: Client, tmp_path: Path) -> None:
    client.write("new", b"n" * 100_000)
    client.union.prepare_snapshot("one").discard()
    assert used(client) == occupied(tmp_path) >= 100_000
