"""Writing an archive to a file, whole or not at all, or to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from unionfs.store.unfinished import unfinished_file


def write_archive(pieces: Iterable[bytes], output: Path | None) -> None:
    """Write ``pieces`` to the file ``output``, which appears when it is complete; None: to standard output, as to anything that
    is there and no regular file.

    Raises:
        OSError: it cannot be written; a file that was there is as before.
    """
    if output is None:
        sys.stdout.flush()
        _write(pieces, os.dup(1))
    elif output.exists() and not output.is_file():
        _write(pieces, os.open(output, os.O_WRONLY | os.O_CLOEXEC))
    else:
        _replace(pieces, output)


def _write(pieces: Iterable[bytes], fd: int) -> None:
    with open(fd, "wb", buffering=0) as file:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]


def _replace(pieces: Iterable[bytes], output: Path) -> None:
    with unfinished_file(output, replace=True) as fd:
        _write(pieces, os.dup(fd))
