"""How a monitor and the command in the foreground talk: frames over a socket, each a letter, a length (4 bytes, little-endian),
data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

_HEADER = struct.Struct("<cI")
SIZE = struct.Struct("<HH")
"""Rows and columns of a terminal."""


class Kind(Enum):
    """What a frame says.  To the monitor: INPUT (a piece of standard input; the next one after its ACCEPTED), END_OF_INPUT,
    SIGNAL (number), SIZE (rows and columns of the terminal, as `SIZE`).  From it: STARTED (the container's ID), OUTPUT, ERRORS
    (pieces of standard output and error), ACCEPTED, FAILED (JSON: thing, problem, remedy, exit status), ENDED (exit status, in
    decimal)."""

    INPUT = b"i"
    END_OF_INPUT = b"e"
    SIGNAL = b"s"
    SIZE = b"w"
    STARTED = b"b"
    OUTPUT = b"o"
    ERRORS = b"x"
    ACCEPTED = b"a"
    FAILED = b"f"
    ENDED = b"q"


class Frame(NamedTuple):
    """One message."""

    kind: Kind
    data: bytes


def encode(kind: Kind, data: bytes = b"") -> bytes:
    """A frame as it is sent."""
    return _HEADER.pack(kind.value, len(data)) + data


class Decoder:
    """Takes a stream of bytes apart, however they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes."""
        self._rest += data
        while len(self._rest) >= _HEADER.size:
            letter, length = _HEADER.unpack_from(self._rest)
            end = _HEADER.size + length
            if len(self._rest) < end:
                return
            body, self._rest = self._rest[_HEADER.size : end], self._rest[end:]
            yield Frame(Kind(letter), body)
