"""Descriptors of the layers: how many are open, and what becomes of them when there are no more."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.overlay.client import ROOT, Client
from tests.overlay.conftest import Open
from unionfs.overlay.fd_pool import FdPool

T = TypeVar("T")


class Holder:
    """Has a descriptor of its own."""

    def __init__(self) -> None:
        self.fd = os.open("/", os.O_PATH)
        self.recent = False


@pytest.fixture
def pool() -> Iterator[FdPool]:
    pool = FdPool(64)
    yield pool
    pool.close()


def fill(pool: FdPool, count: int) -> list[Holder]:
    """That many holders; nobody used them since."""
    holders = [Holder() for _ in range(count)]
    for holder in holders:
        pool.add(holder)
        holder.recent = False
    return holders


def test_pool_that_gives_way_closes_half_of_what_is_open_and_not_what_was_just_used(pool: FdPool) -> None:
    holders = fill(pool, 60)
    holders[0].recent = True
    assert pool.give_way()
    assert len(pool) == 30
    assert holders[0].fd >= 0
    assert pool.limit == 30


def test_pool_that_gave_way_gets_its_limit_back_little_by_little(pool: FdPool) -> None:
    fill(pool, 60)
    assert pool.give_way()
    limits = []
    for _ in range(3):
        pool.trim()
        limits.append(pool.limit)
    assert limits == [60, 64, 64]


def test_few_descriptors_are_not_given_up(pool: FdPool) -> None:
    holders = fill(pool, 15)
    assert not pool.give_way()
    assert all(holder.fd >= 0 for holder in holders)
    assert pool.limit == 64


def test_union_goes_on_when_its_process_may_open_fewer_files(open_union: Open) -> None:
    client = open_union({f"d{number}/f": b"data" for number in range(100)}, pool_limit=400)
    for number in range(100):
        client.read(f"d{number}/f")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_lowest_free(), before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            client.union.create(client.node("d0"), b"new", os.O_WRONLY, 0o644, ROOT)
        for number in range(100):
            _tried(client, lambda number=number: _make(client, f"d{number}"))  # type: ignore[misc]
            assert _tried(client, lambda number=number: client.read(f"d{number}/f")) == b"data"  # type: ignore[misc]
            assert _tried(client, lambda number=number: sorted(client.names(f"d{number}"))) == [b"f", b"new"]  # type: ignore[misc]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _make(client: Client, path: str) -> None:
    entry, _ = client.call(client.union.create, client.node(path), b"new", os.O_WRONLY, 0o644, ROOT)
    client.union.forget(entry.node, 1)


def _tried(client: Client, call: Callable[[], T]) -> T:
    """As a transport does it."""
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno != errno.EMFILE or not client.union.give_way():
                raise


def _lowest_free() -> int:
    fd = os.open("/", os.O_PATH)
    os.close(fd)
    return fd
