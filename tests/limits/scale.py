"""How much the tests do: little in the suite, the sizes of the issue with ``UNIONFS_LIMITS=full`` (``scripts/limits``)."""

from __future__ import annotations

import os

FULL = os.environ.get("UNIONFS_LIMITS") == "full"

NAMES = 100_000 if FULL else 2_000
"""Files in one directory."""
PROCESSES = 200 if FULL else 24
"""That work in one union at once."""
ROUNDS = 10 if FULL else 2
"""Of operations, each process."""
LEVELS = 3_000 if FULL else 400
"""Of directories, one in the other; 400 names of 10 bytes are longer than PATH_MAX already."""
LINKS = 30_000 if FULL else 1_000
"""Names of one file."""
OPEN_FILES = 20_000 if FULL else 600
"""At a time."""
LOWERED_NOFILE = 4_096 if FULL else 200
"""RLIMIT_NOFILE of a daemon that is to reach it."""
