"""A large directory, whose listings are interrupted, and gone on with when names have come and gone meanwhile."""

from __future__ import annotations

import collections
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.behaviour.syscalls import getdents
from tests.differential.player import Operation
from tests.load.work import weighted

LISTINGS = 3
_ROOMS = (200, 1000, 4096, 32768)


@dataclass
class _Listing:
    fd: int
    at_start: set[str]
    seen: collections.Counter[str] = field(default_factory=collections.Counter)
    touched: set[str] = field(default_factory=set)
    """Names that came or went meanwhile: those may be listed or not."""


class ListingsWork:
    """Works in ``many``."""

    def __init__(self, top: Path) -> None:
        self._directory = top / "many"
        self._names = set(os.listdir(self._directory))
        self._at_most = 2 * len(self._names)
        self._listings: dict[int, _Listing] = {}

    def draw(self, dice: random.Random) -> list[Operation]:
        number = dice.randrange(LISTINGS)
        name = dice.choice(sorted(self._names)) if self._names else "0"
        new = f"new{dice.randrange(self._at_most)}"
        choices = [
            (
                20,
                Operation("go_on", (number, dice.choice(_ROOMS))) if number in self._listings else Operation("begin", (number,)),
            ),
            (3, Operation("begin", (number,))),
            (5, Operation("add", (new,))),
            (4, Operation("remove", (name,))),
            (3, Operation("rename", (name, new))),
            (1, Operation("names", ())),
        ]
        return [weighted(dice, choices)]

    def end(self) -> None:
        while self._listings:
            os.close(self._listings.popitem()[1].fd)

    def begin(self, number: int) -> None:
        """A listing, which is begun again if it was not finished."""
        if number in self._listings:
            os.close(self._listings.pop(number).fd)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        self._listings[number] = _Listing(fd, set(self._names))

    def go_on(self, number: int, room: int) -> list[str]:
        """The next rows; at the end what is wrong with all of them."""
        listing = self._listings[number]
        # Two directories have their rows in different orders, and so may be at their ends at different times: to the end of both.
        if room == _ROOMS[-1]:
            while rows := getdents(listing.fd, room):
                listing.seen.update(os.fsdecode(row.name) for row in rows)
            os.close(self._listings.pop(number).fd)
            return _problems(listing)
        listing.seen.update(os.fsdecode(row.name) for row in getdents(listing.fd, room))
        return []

    def add(self, name: str) -> None:
        os.close(os.open(self._directory / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        self._names.add(name)
        self._touch(name)

    def remove(self, name: str) -> None:
        os.unlink(self._directory / name)
        self._names.discard(name)
        self._touch(name)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._directory / old, self._directory / new)
        self._names.discard(old)
        self._names.add(new)
        self._touch(old, new)

    def names(self) -> list[str]:
        """All that are there, by a listing that nothing interrupts."""
        found = sorted(os.listdir(self._directory))
        return found if found == sorted(self._names) else ["not what was made", *found]

    def _touch(self, *names: str) -> None:
        for listing in self._listings.values():
            listing.touched.update(names)


def _problems(listing: _Listing) -> list[str]:
    stayed = listing.at_start - listing.touched
    missing, strangers = stayed - listing.seen.keys(), listing.seen.keys() - listing.at_start - listing.touched - {".", ".."}
    doubled = {name for name in stayed if listing.seen[name] > 1}
    return [
        *(f"{name} was there and is not listed" for name in sorted(missing)),
        *(f"{name} is listed and was never there" for name in sorted(strangers)),
        *(f"{name} is listed {listing.seen[name]} times" for name in sorted(doubled)),
    ]
