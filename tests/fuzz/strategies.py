"""Damage: to bytes, and to JSON documents."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis.strategies as st

ODD_TEXTS = (
    "",
    ".",
    "..",
    "/",
    "//",
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "\udcff",
    "²",
    "٣",
    "-1",
    "1e999",
    "9" * 5000,
    "x" * 5000,
    "\n",
    "%s",
)
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(st.characters(), max_size=12)
"""Texts that have been somebody's undoing: halves of characters, digits that are no ASCII, numbers without end."""

_SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1 << 31, 1 << 63, 1 << 64, 10**400, 1.5, float("inf"), float("nan"), 1e308])
    | st.integers()
    | TEXTS
)
JSON_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
"""Any value of JSON, and the infinities and NaN that Python writes and reads besides."""

NESTED = b"[" * 50_000
"""Nested too deep for any parser."""


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """``sound`` with some bytes changed, a piece taken out, put in or said twice, or the end cut off; also as it is."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "cut", "remove", "insert", "repeat"])):
            case "change" if place < len(data):
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place:]
            case "remove":
                del data[place : place + draw(st.integers(1, 16))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "repeat":
                data[place:place] = data[place : place + 16]
    return bytes(data)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*place, key))


def _replace(value: Any, place: Sequence[Any], new: Any) -> Any:
    if not place:
        return new
    value[place[0]] = _replace(value[place[0]], place[1:], new)
    return value


@st.composite
def faulty(draw: st.DrawFn, document: Any) -> Any:
    """``document`` with up to three values in it, at any depth, that are others; also as it is."""
    value = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        value = _replace(value, draw(st.sampled_from(list(_places(value)))), draw(JSON_VALUES))
    return value


def texts_of(document: Any) -> st.SearchStrategy[bytes]:
    """JSON of ``document``: with faults in what it says, with damage to its bytes, or nothing like it."""
    written = json.dumps(document).encode()
    return (
        faulty(document).map(lambda value: json.dumps(value).encode())
        | damaged(written)
        | st.binary(max_size=40)
        | st.sampled_from([NESTED, b'{"a":' * 50_000, b"9" * 5000, b"\xff\xfe", b"null", b""])
    )
