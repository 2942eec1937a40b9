"""Names of volumes."""

from __future__ import annotations

import re
import secrets

from unionfs.store.errors import wrong_usage

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # moby, daemon/names: RestrictedNamePattern
_LONGEST = 255  # NAME_MAX: it is the name of a directory


def is_name(name: str) -> bool:
    """Whether a volume may have that name."""
    return bool(_NAME.fullmatch(name)) and len(name) <= _LONGEST


def check_name(name: str) -> str:
    """``name``, if a volume may have it.

    Raises:
        StoreError: it may not (exit status 2).
    """
    if not is_name(name):
        raise wrong_usage(
            name,
            "not a name of a volume",
            "use two or more letters, digits and _ . - beginning with a letter or a digit; a host directory by its absolute path",
        )
    return name


def anonymous_name() -> str:
    """A new name for a volume that was given none: 64 hexadecimal digits, as docker's."""
    return secrets.token_hex(32)
