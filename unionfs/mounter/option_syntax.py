"""The grammar of ``-o``: options separated by commas, the directories of ``lowerdir`` by colons, backslash escapes.

The rules are the kernel's (``ovl_next_opt``, ``ovl_parse_param_split_lowerdirs`` and ``ovl_unescape`` in fs/overlayfs/params.c),
so that a line works with ``mount -t overlay`` and with us: a backslash takes away the meaning of the character after it, first
of a comma, then of a colon; it is removed only at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A run of escaped or ordinary characters between separators; a lone backslash at the very end stands for itself.
_COMMA_PART = re.compile(r"(?:\\.|[^,\\]|\\$)*", re.DOTALL)
_COLON_PART = re.compile(r"(?:\\.|[^:\\]|\\$)*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def split_options(text: str) -> Iterator[tuple[str, str | None]]:
    """The (name, value) pairs of one ``-o`` argument; value is None for a word without ``=``, and still has its escapes.

    Empty options are left out: podman writes ``upperdir=U,workdir=W,,volatile`` and a comma at the end.
    """
    for part in _split(_COMMA_PART, text):
        if part:
            name, separator, value = part.partition("=")
            yield name, value if separator else None


def split_lowers(value: str) -> tuple[list[str], list[str]]:
    """The lower layers of a ``lowerdir`` value, and its data-only ones (those after ``::``), without escapes.

    Raises:
        ValueError: a name is empty, or a lower layer stands after a data-only one; the text says which.
    """
    lowers: list[str] = []
    data: list[str] = []
    after_empty = False
    for part in map(unescape, _split(_COLON_PART, value)):
        if not part:
            if after_empty or not lowers:
                raise ValueError("has an empty directory name")
            after_empty = True
            continue
        if data and not after_empty:
            raise ValueError("has a lower layer after a data-only one")
        (data if after_empty else lowers).append(part)
        after_empty = False
    if after_empty or not lowers:
        raise ValueError("has an empty directory name")
    return lowers, data


def unescape(value: str) -> str:
    """``value`` without its escapes."""
    return _ESCAPED.sub(r"\1", value)


def _split(part: re.Pattern[str], text: str) -> Iterator[str]:
    position = 0
    while position <= len(text):
        match = part.match(text, position)
        assert match is not None  # the pattern matches the empty string
        yield match[0]
        position = match.end() + 1
