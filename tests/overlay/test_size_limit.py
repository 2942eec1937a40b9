"""What an accounted size limit counts: exactly what the upper occupies, after every operation."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, stack
from unionfs.overlay import LimitedUnion, Options

LIMIT = 1 << 20
LOWER: dict[str, bytes | None] = {"big": b"b" * 300_000, "small": b"s" * 100, "dir/file": b"f" * 5000, "dir/sub": None}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    union = LimitedUnion(stack(tmp_path, LOWER), Options(), LIMIT)
    yield Client(union)
    union.close()


def used(client: Client) -> int:
    return client.union.statistics()["size_used"]


def occupied(tmp_path: Path) -> int:
    seen: dict[int, int] = {}
    for directory, _, files in os.walk(tmp_path / "upper"):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            st = os.lstat(path)
            seen[st.st_ino] = st.st_blocks * 512
    return sum(seen.values())


def test_count_is_what_the_upper_occupies_after_any_operations(client: Client, tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - the same numbers each time are wanted
    names = ["big", "small", "dir/file", "new", "dir/new", "dir/other"]
    for step in range(300):
        name, other = chance.sample(names, 2)
        try:
            match chance.randrange(6):
                case 0 | 1:
                    client.write(name, b"w" * chance.randrange(1, 60_000), chance.randrange(200_000))
                case 2:
                    client.truncate(name, chance.randrange(100_000))
                case 3:
                    client.unlink(name)
                case 4:
                    client.rename(name, other)
                case 5:
                    client.mkdir(f"dir/d{step}")
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        client_forgets_all_without_a_name(client)
        assert used(client) == occupied(tmp_path)
        assert used(client) <= LIMIT
    assert client.union.statistics()["size_reserved"] == 0


def client_forgets_all_without_a_name(client: Client) -> None:
    """As the kernel does for a file that nobody has open."""
    for inode in list(client.union._nodes):
        if inode.orphan_fd >= 0:
            client.union.forget(inode.node, inode.nlookup)


def test_removed_file_counts_until_its_last_user_has_gone(client: Client) -> None:
    before = used(client)
    client.write("new", b"n" * 100_000)
    node = client.node("new")
    client.unlink("new")
    assert used(client) >= before + 100_000
    client.union.forget(node, 100)
    assert used(client) == before


def test_write_fills_up_to_the_limit_and_is_short_there(client: Client) -> None:
    parent, name = client.place("new")
    node = client.union.create(parent, name, os.O_WRONLY, 0o644, ROOT)[0].node
    room = (LIMIT - used(client)) // 4096 * 4096
    assert client.union.write(node, 0, b"x" * (LIMIT + 1)) == room
    with pytest.raises(OSError, match="No space"):
        client.union.write(node, room, b"x")
    assert client.union.write(node, 10, b"again") == 5  # it has its blocks
    client.truncate("new", 4096)
    assert client.union.write(node, 4096, b"y" * 4096) == 4096


def test_allocated_blocks_can_be_written_when_nothing_else_can(client: Client) -> None:
    client.write("new", b"")
    node = client.node("new")
    room = (LIMIT - used(client)) // 4096 * 4096
    client.union.fallocate(node, 0, room, 0)
    with pytest.raises(OSError, match="No space"):
        client.union.fallocate(node, room, 4096, 0)
    assert client.union.write(node, 0, b"x" * room) == room
    with pytest.raises(OSError, match="No space"):
        client.write("small", b"x")


def test_hole_is_refused_what_it_lacks_and_punching_gives_it_back(client: Client, tmp_path: Path) -> None:
    client.write("new", b"x", 64 << 20)  # nearly all of it is a hole
    assert used(client) < LIMIT // 10
    node = client.node("new")
    client.union.fallocate(node, 0, 900_000 // 4096 * 4096, 1)
    with pytest.raises(OSError, match="No space"):
        client.union.fallocate(node, 10 << 20, 900_000, 1)
    client.union.fallocate(node, 0, 800_000 // 4096 * 4096, 1 | 2)
    assert used(client) == occupied(tmp_path)
    client.union.fallocate(node, 10 << 20, 700_000, 1)


def test_copy_up_without_room_changes_nothing(client: Client, tmp_path: Path) -> None:
    client.write("new", b"x" * 900_000)
    before = used(client)
    with pytest.raises(OSError, match="No space"):
        client.write("big", b"y")
    assert used(client) == before == occupied(tmp_path)
    assert client.read("big") == LOWER["big"]
    client.unlink("big")
    client.truncate("new", 0)
    client_forgets_all_without_a_name(client)
    assert used(client) == occupied(tmp_path)


def test_next_mount_counts_what_is_there_and_links_once(client: Client, tmp_path: Path) -> None:
    client.write("new", b"x" * 100_000)
    client.union.link(client.node("new"), *client.place("again"))
    client.write("dir/file", b"y", 10_000)
    count = used(client)
    client.union.close()
    lowers = tmp_path / "lower0"
    second = LimitedUnion(type(stack(tmp_path))((lowers,), tmp_path / "upper", tmp_path / "work"), Options(), LIMIT)
    assert second.statistics()["size_used"] == count
    second.close()


def test_statfs_shows_the_limit_and_what_is_left(client: Client) -> None:
    client.write("new", b"x" * 100_000)
    shown = client.union.statfs()
    assert shown.blocks * shown.frsize == LIMIT
    assert shown.bfree == shown.bavail == (LIMIT - used(client)) // shown.frsize


def test_more_than_the_limit_at_the_mount_leaves_no_room(tmp_path: Path) -> None:
    layers = stack(tmp_path, LOWER)
    (tmp_path / "upper" / "present").write_bytes(b"p" * 50_000)
    union = LimitedUnion(layers, Options(), 10_000)
    client = Client(union)
    assert union.statfs().bavail == 0
    with pytest.raises(OSError, match="No space"):
        client.write("present", b"x", 100_000)
    client.unlink("present")
    client_forgets_all_without_a_name(client)
    assert used(client) == occupied(tmp_path)
    union.close()
