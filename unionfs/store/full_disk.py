"""A full disk, or a quota that is used up, as an error that names what could not be written, and where room is needed."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from unionfs.store.errors import StoreError

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


@contextlib.contextmanager
def naming_a_full_disk(thing: str, place: Path | str = "the store") -> Iterator[None]:
    """Turn such an OSError of the block into a StoreError.  ``place``: what is on that disk.

    Raises:
        StoreError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreError(thing, f"cannot be written: {error.strerror}", f"make room on the disk of {place}") from error
