"""Names of images: ``NAME[:TAG]``."""

from __future__ import annotations

import re
from typing import NamedTuple

from unionfs.store.errors import StoreError

_DEFAULT_TAG = "latest"
# The grammar of distribution/reference: an optional host with port, then components of lower-case letters, digits and separators.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MOST = 255
# What would be taken for an ID (distribution/reference refuses these too).
_ID_LIKE = re.compile(r"sha256|[0-9a-f]{64}")


class Reference(NamedTuple):
    """The name of an image; ``str()`` is ``NAME:TAG``."""

    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


def parse_reference(text: str) -> Reference:
    """Take ``NAME[:TAG]`` apart; the tag is ``latest`` where none is given.

    Raises:
        StoreError: it is no name of an image (exit status 2).
    """
    name, tag = text, _DEFAULT_TAG
    # A colon in the last component begins the tag; one before it belongs to a host's port.
    if ":" in text.rpartition("/")[2]:
        name, _, tag = text.rpartition(":")
    is_name = len(name) <= _MOST and _NAME.fullmatch(name) and not _ID_LIKE.fullmatch(name)
    if not is_name or not _TAG.fullmatch(tag):
        error = StoreError(
            text,
            "not a name of an image",
            "use NAME[:TAG] of lower-case letters, digits and single . _ - /, such as site/web:1.0",
        )
        error.exit_status = 2
        raise error
    return Reference(name, tag)
