"""Listings: offsets, numbers, and what stays after names come and go."""

from __future__ import annotations

import os

import pytest

from tests.overlay.conftest import Open
from unionfs.filesystem import ROOT_ID
from unionfs.overlay import kinds
from unionfs.overlay.listing import ino_in, kind_in, lower_ino, lower_kind, lower_name, lower_places, real_name
from unionfs.overlay.listing_order import ListingOrder


def test_listing_goes_on_where_it_stopped_while_names_come_and_go(open_union: Open) -> None:
    client = open_union({f"l{index}": b"" for index in range(20)})
    for index in range(20):
        client.write(f"u{index}", b"")
    rows = list(client.union.readdir(ROOT_ID, 0))
    seen = rows[:15]
    gone = [rows[3].name, rows[14].name, rows[20].name]
    for name in gone:
        client.unlink(os.fsdecode(name))
    client.write("later", b"")
    rest = [row.name for row in client.union.readdir(ROOT_ID, seen[-1].offset)]
    assert not set(rest) & {row.name for row in seen}
    assert set(rest) == {row.name for row in rows[15:]} - {gone[2]}


def test_program_that_makes_a_file_for_every_file_it_reads_comes_to_an_end(open_union: Open) -> None:
    client = open_union({"a": b"", "b": b""})
    read, offset = [], 0
    while row := next(iter(client.union.readdir(ROOT_ID, offset)), None):
        read.append(row.name)
        offset = row.offset
        if row.name in (b".", b".."):
            continue
        client.write(f"{len(read)}.made", b"")
    assert sorted(read) == [b".", b"..", b"a", b"b"]


def test_readdirplus_rows_count_a_lookup_each_and_unread_takes_it_back(open_union: Open) -> None:
    client = open_union({"a": b"", "b": b""})
    before = client.union.statistics()["inodes"]
    for row in client.union.readdirplus(ROOT_ID, 0):
        client.union.unread(row)
    assert client.union.statistics()["inodes"] == before


def test_numbers_in_listings_are_those_of_stat(open_union: Open) -> None:
    client = open_union({"a": b"", "d/x": b"", "e/x": b""}, {"b": b"", "d/y": b""})
    client.write("new", b"")
    client.write("a", b"copied up")
    client.write("d/x", b"copied up")
    client.mkdir("made")
    for listed in (client.union.readdir(ROOT_ID, 0), client.union.readdir(client.node("d"), 0)):
        for row in listed:
            if row.name not in (b".", b".."):
                directory = "" if row.name in (b"a", b"b", b"d", b"e", b"new", b"made") else "d/"
                assert client.attr(directory + os.fsdecode(row.name)).ino == row.ino, row.name


def test_new_generation_drops_the_gaps_and_old_offsets_stay_good() -> None:
    order = ListingOrder([b"first", b"second", b"last"])
    old = {name: offset for offset, name in order.after(order.start())}
    for index in range(3000):
        order.add(b"temporary%d" % index)
    order.compact(lambda: [b"first", b"second", b"last"], 3)
    assert [name for _, name in order.after(order.start())] == [b"first", b"second", b"last"]
    assert next(name for _, name in order.after(old[b"second"])) == b"last"


@pytest.mark.parametrize("ino", [0, 1, (1 << 40) + 7, (1 << 64) - 1])
@pytest.mark.parametrize("kind", [kinds.REG, kinds.SOCK, kinds.WHT])
def test_name_keeps_its_type_and_number_in_one_int(kind: int, ino: int) -> None:
    real = real_name(kind, ino)
    assert (kind_in(real), ino_in(real)) == (kind, ino)


@pytest.mark.parametrize("places", [(0,), (65535,), (65536,), (3, 7), (65536, 70000)])
@pytest.mark.parametrize("ino", [1, (1 << 64) - 1])
def test_lower_name_keeps_its_places_however_many_layers_there_are(ino: int, places: tuple[int, ...]) -> None:
    name = lower_name(kinds.DIR, ino, places)
    assert (lower_kind(name), lower_ino(name), lower_places(name)) == (kinds.DIR, ino, places)
