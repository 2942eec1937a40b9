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


def split_directories(value: str) -> list[str]:
    """The directories of a ``lowerdir`` value, without escapes."""
    return [unescape(part) for part in _split(_COLON_PART, value)]


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
