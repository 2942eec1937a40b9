"""The known deviations from kernel OverlayFS, as docs/deviations.md declares them.

The document is the declaration: a heading ``### name`` followed by a line ``Backends: direct, pyfuse3``.  A test that meets one
names it and says what either side does; a case that differs without a heading cannot be written down as a deviation.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TypeVar

DOCUMENT = Path(__file__).parents[2] / "docs" / "deviations.md"

T = TypeVar("T")


@cache
def declared() -> dict[str, frozenset[str]]:
    """The backends of every declared deviation, by its name."""
    found = re.findall(r"^### (\S+)\n+Backends: (.+?)\.?$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: frozenset(backends.split(", ")) for name, backends in found}


def choose(deviation: str, backend: str, kernel: T, ours: T) -> T:
    """``ours`` on a backend that the document lists for ``deviation``, else ``kernel``.  KeyError if it is not declared."""
    return ours if backend in declared()[deviation] else kernel
