"""What a user's import leaves out: owners and attributes that only root may set.

It is noted beside the layer, so that who looks at the image later is told too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from unionfs.store.documents import as_text, as_texts, parse_object

_NAME = "skipped"


class Skipped(NamedTuple):
    """How many entries lack something, the name of the first one, and what they lack: ``owner``, names of attributes."""

    entries: int
    first: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        """As people are told."""
        count = "1 entry" if self.entries == 1 else f"{self.entries} entries"
        return f"{count} (the first: {self.first!r}) without what only root may set: {', '.join(self.what)}"


def total_of(layers: Iterable[Skipped | None]) -> Skipped | None:
    """Of several layers, the bottom first; None where nothing was left out."""
    found = [one for one in layers if one is not None]
    if not found:
        return None
    what = dict.fromkeys(name for one in found for name in one.what)
    return Skipped(sum(one.entries for one in found), found[0].first, tuple(what))


class SkipCounter:
    """Counts while a layer is unpacked."""

    def __init__(self) -> None:
        self._entries = 0
        self._first = ""
        self._last: bytes | None = None
        self._what: dict[str, None] = {}

    def skip(self, entry: bytes, what: str) -> None:
        """``what`` of ``entry`` was left out."""
        if entry != self._last:
            self._last = entry
            self._entries += 1
            self._first = self._first or entry.decode("utf-8", "backslashreplace") or "./"
        self._what[what] = None

    @property
    def found(self) -> Skipped | None:
        """What was counted."""
        return Skipped(self._entries, self._first, tuple(self._what)) if self._entries else None


def save_skipped(layer: Path, skipped: Skipped | None) -> None:
    """Note it in the directory of a layer.  Raises OSError: it cannot be written."""
    if skipped is not None:
        (layer / _NAME).write_text(json.dumps(skipped._asdict()))


def load_skipped(layer: Path) -> Skipped | None:
    """What was noted there.

    Raises:
        CorruptError: the note was damaged.
        OSError: it cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        path = layer / _NAME
        document = parse_object(path.read_bytes(), str(path))
        entries = document.get("entries")
        count = entries if isinstance(entries, int) else 0
        return Skipped(count, as_text(document, "first", str(path)), as_texts(document, "what", str(path)))
    return None
