"""The kernel may forget whatever is not in use, at any time and in any order: nothing may change by that, and nothing stay."""

from __future__ import annotations

import contextlib
import os
import random
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, stack
from unionfs.filesystem import ROOT_ID, Attr, Entry
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options, Stack, Union, kinds

STEPS = 600
NAMES = ("a", "b", "c")


class CountedUnion:
    """A union that keeps the account of lookups that the kernel keeps."""

    def __init__(self, union: Union) -> None:
        self._union = union
        self.nlookup: Counter[int] = Counter()

    def __getattr__(self, name: str) -> object:
        method = getattr(self._union, name)

        def call(*arguments: object) -> object:
            result = method(*arguments)
            entry = result[0] if name == "create" else result
            if isinstance(entry, Entry):
                self.nlookup[entry.node] += 1
            return result

        return call

    def readdirplus(self, node: int, offset: int) -> Iterator[object]:
        for row in self._union.readdirplus(node, offset):
            if row.entry is not None:
                self.nlookup[row.entry.node] += 1
            yield row


@pytest.fixture
def layers(tmp_path: Path) -> Stack:
    made = stack(
        tmp_path,
        {"a/a": b"1", "a/b/c": b"2", "b": b"3", "c/a/a": b"4"},
        {"a/c": b"5", "a/b/a": b"6", "b/a": b"7", "c/c/b": b"8"},
    )
    lower = tmp_path / "lower0"
    for old, new in (("a/a", "a/b/a"), ("a/a", "c/a/b"), ("b", "c/b")):
        os.link(lower / old, lower / new)
    return made


def view(client: Client) -> dict[str, tuple[Attr, bytes]]:
    """Everything there is, by path, without times of access: looking at it sets them."""
    found = {}
    pending = [(ROOT_ID, "")]
    while pending:
        node, path = pending.pop()
        for row in client.call(lambda node=node: list(client.union.readdirplus(node, 0))):
            if row.entry is None:
                continue
            name = f"{path}/{os.fsdecode(row.name)}"
            assert row.ino == row.entry.attr.ino
            attr = row.entry.attr._replace(atime=0, atimensec=0)
            content = b""
            if row.kind == kinds.DIR:
                pending.append((row.entry.node, name))
            else:
                look = client.union.readlink if row.kind == kinds.LNK else lambda node: bytes(client.union.read(node, 0, 100))
                content = client.call(look, row.entry.node)
            found[name] = (attr, content)
    return found


def write(client: Client, path: str, data: bytes) -> None:
    """Write to a file, which is made if it is not there; not to a link, which the kernel would follow."""
    parent, name = client.place(path)
    found = client.call(client.union.lookup, parent, name)
    if found is None or stat.S_ISREG(found.attr.mode):
        client.write(path, data)


def rename(client: Client, old: str, new: str, flags: int) -> None:
    """Rename, but not into what is renamed: the kernel refuses that before it asks."""
    if not f"{old}/".startswith(f"{new}/") and not f"{new}/".startswith(f"{old}/"):
        client.rename(old, new, flags)


def step(client: Client, dice: random.Random) -> None:
    """One change, which may fail."""
    one, other = ("/".join(dice.choice(NAMES) for _ in range(dice.choice((1, 2, 2, 3)))) for _ in range(2))
    union = client.union
    changes = (
        lambda: write(client, one, b"%d" % dice.randrange(1000)),
        lambda: client.chmod(one, dice.choice((0o600, 0o640))),
        lambda: client.mkdir(one),
        lambda: client.unlink(one),
        lambda: client.rmdir(one),
        lambda: rename(client, one, other, 0),
        lambda: rename(client, one, other, 0),
        lambda: rename(client, one, other, RENAME_EXCHANGE),
        lambda: client.call(union.link, client.node(one), *client.place(other)),
        lambda: client.call(union.symlink, *client.place(one), b"target", ROOT),
    )
    with contextlib.suppress(OSError):  # most often: no such file
        dice.choice(changes)()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("index", ["on", "off"])
def test_nothing_changes_and_nothing_stays_when_all_is_forgotten(layers: Stack, index: str, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    descriptors = len(os.listdir("/proc/self/fd"))
    union = Union(layers, Options(index=index))  # type: ignore[arg-type]
    counted = CountedUnion(union)
    client = Client(counted)  # type: ignore[arg-type]
    for number in range(STEPS):
        step(client, dice)
        if number % 3:
            continue
        view(client)
        pinned = [node for node in counted.nlookup if dice.random() < 0.05]
        for node in pinned:
            union.pin(node)
        step(client, dice)
        for node in pinned:
            union.unpin(node)
        before = view(client)
        nodes = list(counted.nlookup.items())
        dice.shuffle(nodes)
        for node, nlookup in nodes:
            union.forget(node, nlookup)
        counted.nlookup.clear()
        assert union.statistics()["inodes"] == 1
        assert view(client) == before
    union.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors
