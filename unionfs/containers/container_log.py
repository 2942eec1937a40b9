"""What a container has written: one line of JSON for each of its lines (or piece of a long one), as docker's ``json-file`` has
them.

``{"log": text, "stream": "stdout" | "stderr", "time": RFC 3339 with nanoseconds}``; bytes that are not UTF-8 stand as lone
surrogates.
"""

from __future__ import annotations

import collections
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unionfs.store.errors import CorruptError

NAME = "log.json"
_LONGEST = 16 << 10  # docker cuts a line there too
_LOOK_AGAIN = 0.05


class Entry(NamedTuple):
    """A piece of output; ``data`` ends with a newline unless the line goes on, or was never ended."""

    stream: str
    time: str
    data: bytes


class LogWriter:
    """Writes the log of one container."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError: it cannot be made."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(directory / NAME, flags, 0o600)
        self._rest: dict[str, bytes] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Log ``data``; a line that has not ended waits for its end.

        Raises:
            OSError: the disk is full.
        """
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(line + b"\n")]
        *longs, self._rest[stream] = _pieces(rest)
        self._append(stream, pieces + longs)

    def close(self) -> None:
        """Write what has not ended, and close.

        Raises:
            OSError: the disk is full.
        """
        try:
            for stream, rest in self._rest.items():
                self._append(stream, [rest] if rest else [])
        finally:
            os.close(self._fd)

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        now = _now()
        lines = [
            json.dumps({"log": piece.decode(errors="surrogateescape"), "stream": stream, "time": now}) + "\n" for piece in pieces
        ]
        text = "".join(lines).encode()
        while text:
            text = text[os.write(self._fd, text) :]


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + _LONGEST] for start in range(0, len(line), _LONGEST)] or [b""]


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"


def read_log(directory: Path, *, tail: int | None = None, is_over: Callable[[], bool] | None = None) -> Iterator[Entry]:
    """The log of the container with that directory: the last ``tail`` pieces (None: all).  With ``is_over`` also what comes,
    until that is true and all of it has been read.

    Raises:
        CorruptError: a line is damaged; those before it have been read.
        OSError: it cannot be read.
    """
    try:
        file = (directory / NAME).open("rb")
    except FileNotFoundError:
        return
    with file:
        entries = _complete(file)
        yield from entries if tail is None else collections.deque(entries, tail)
        while is_over is not None:
            # Asked before reading: what was written before the end is then read after it.
            over = is_over()
            yield from _complete(file)
            if over:
                return
            time.sleep(_LOOK_AGAIN)


def _complete(file: BinaryIO) -> Iterator[Entry]:
    """The lines up to the end of the file; one that is just being written is left for the next time."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        yield _entry(line, file)


def _entry(line: bytes, file: BinaryIO) -> Entry:
    try:
        record = json.loads(line)
        stream, moment, text = record["stream"], record["time"], record["log"]
        if not isinstance(stream, str) or not isinstance(moment, str):
            raise TypeError("stream and time are texts")
        return Entry(stream, moment, text.encode(errors="surrogateescape"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(
            f"{file.name}, before byte {file.tell()}",
            f"no line of the log of a container: {error}",
            "remove that line, or the container (unionfs rm -f)",
        ) from error
