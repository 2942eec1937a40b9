"""A part of a volume: a path inside it, opened so that no symbolic link leads out, however it is changed meanwhile."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from unionfs.linux.openat2 import open_below
from unionfs.store.errors import NotFoundError, StoreError


def open_subpath(name: str, data: Path, subpath: str) -> int:
    """A descriptor (O_PATH) of ``subpath``, a relative path, in ``data``, where the volume ``name`` is.

    Raises:
        NotFoundError: there is nothing.
        StoreError: it leads out of the volume.
    """
    thing = f"{name}: subpath {subpath}"
    root = os.open(data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_below(root, os.fsencode(subpath), os.O_PATH)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFoundError(
                thing, "nothing is there in the volume", "make it first, with a container that has all of it"
            ) from error
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise StoreError(thing, "a symbolic link in it leads out of the volume", "give a path that stays inside") from error
        raise StoreError(thing, error.strerror or str(error), "see what the volume holds") from error
    finally:
        os.close(root)
