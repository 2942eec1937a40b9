"""Sees to it that no mount of a test run hangs it or outlives it: ``python -m tests.watchdog DIRECTORY``, run by the conftest.

A process that waits for a dead FUSE server cannot be interrupted (fs/fuse/dev.c, request_wait_answer(): once the server has
read the request, only a fatal signal ends the wait), so a time limit inside pytest does not reach it.  Somebody else must
abort the connection: this process.  Each line on its standard input is a number of seconds; if the next line is not there
by then, all mounts under DIRECTORY are forced away.  ``0`` means no limit.  At ``end``, or at the end of input
(pytest was killed), whatever is still mounted under DIRECTORY is taken away.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from tests.mounts import mounts_under, tear_down


def main(directory: Path) -> None:
    limit: float | None = None
    pending = b""
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], limit)
        if not readable:
            tear_down_all(directory)
            limit = None
            continue
        received = os.read(sys.stdin.fileno(), 4096)
        *lines, pending = (pending + received).split(b"\n")
        if not received or b"end" in lines:
            break
        if lines:
            limit = float(lines[-1]) or None
    tear_down_all(directory)


def tear_down_all(directory: Path) -> None:
    for mount in mounts_under(directory):
        tear_down(mount)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
