"""Unions without a mount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.overlay.client import Client, stack
from unionfs.overlay import Union

Open = Callable[..., Client]


@pytest.fixture
def open_union(tmp_path: Path) -> Iterator[Open]:
    """Opens a union of lowers given as dicts (top first), with keyword arguments ``writable`` and those of `Union`; closes it at
    the end."""
    with ExitStack() as opened:

        def open_one(*lowers: dict[str, bytes | None], writable: bool = True, **options: object) -> Client:
            union = Union(stack(tmp_path, *lowers, writable=writable), **options)  # type: ignore[arg-type]
            opened.callback(union.close)
            return Client(union)

        yield open_one
