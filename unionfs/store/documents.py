"""JSON documents of images: untrusted, so their size and their shape are checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from unionfs.store.errors import CorruptError

MAX_SIZE = 4 << 20
"""Bytes of a manifest, index or config at most; containers/image refuses larger ones as well."""

_REMEDY = "make the archive anew"


def parse_json(data: bytes, thing: str) -> object:
    """What ``data`` says; ``thing`` is what errors call it.

    Raises:
        CorruptError: it is no JSON, or nested without end.
    """
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(thing, f"not a JSON document: {error}", _REMEDY) from error
    return value


def parse_object(data: bytes, thing: str) -> dict[str, object]:
    """A JSON object.

    Raises:
        CorruptError: it is none.
    """
    return as_object(parse_json(data, thing), thing)


def as_object(value: object, thing: str) -> dict[str, object]:
    """``value``, which must be an object (a dict of names).

    Raises:
        CorruptError: it is none.
    """
    if not isinstance(value, dict):
        raise CorruptError(thing, "not a JSON object", _REMEDY)
    return value


def optional_object(document: Mapping[str, object], key: str, thing: str) -> dict[str, object]:
    """``document[key]``; empty where it is missing or null.

    Raises:
        CorruptError: it is no object.
    """
    value = document.get(key)
    return {} if value is None else as_object(value, f"{key} of {thing}")


def as_list(document: Mapping[str, object], key: str, thing: str) -> Sequence[object]:
    """``document[key]``, which must be a list; empty where it is null, as Go writes an empty one.

    Raises:
        CorruptError: it is missing or no list.
    """
    value = document.get(key, "")
    if value is None:
        return []
    if not isinstance(value, list):
        raise CorruptError(thing, f"has no list {key!r}", _REMEDY)
    return value


def as_text(document: Mapping[str, object], key: str, thing: str, default: str | None = None) -> str:
    """``document[key]``, a string; ``default`` where it is missing or null.

    Raises:
        CorruptError: it is no string, or missing without a default.
    """
    value = document.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise CorruptError(thing, f"has no text {key!r}", _REMEDY)
    return value


def as_texts(document: Mapping[str, object], key: str, thing: str) -> tuple[str, ...]:
    """``document[key]``, a list of strings; empty where it is missing or null.

    Raises:
        CorruptError: it is anything else.
    """
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CorruptError(thing, f"{key!r} is no list of texts", _REMEDY)
    return tuple(value)


def canonical(document: object) -> bytes:
    """``document`` as JSON, the same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
