"""Names of containers."""

from __future__ import annotations

import re
import secrets

from unionfs.store.errors import wrong_usage

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # docker's grammar (daemon/names)

_ADJECTIVES = (
    "brave",
    "calm",
    "clever",
    "eager",
    "fair",
    "gentle",
    "happy",
    "keen",
    "kind",
    "lively",
    "neat",
    "proud",
    "quick",
    "witty",
)
_NOUNS = (
    "badger",
    "beaver",
    "falcon",
    "heron",
    "lynx",
    "marten",
    "otter",
    "owl",
    "raven",
    "seal",
    "stork",
    "swift",
    "tern",
    "wren",
)


def new_id() -> str:
    """A new container ID: 64 hexadecimal digits."""
    return secrets.token_hex(32)


def made_up_name() -> str:
    """A name for a container that was given none.  It may be taken."""
    return f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_NOUNS)}_{secrets.token_hex(2)}"


def check_name(name: str) -> str:
    """``name``, if a container may have it.

    Raises:
        StoreError: it may not (exit status 2).
    """
    if not _NAME.fullmatch(name) or len(name) > 128:
        raise wrong_usage(
            name, "not a name of a container", "use two or more letters, digits and _ . - beginning with a letter or a digit"
        )
    return name
