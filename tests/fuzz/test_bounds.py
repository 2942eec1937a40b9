"""The bounds catch what they are for."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.bounds import bounded


def test_huge_allocation_fails() -> None:
    with pytest.raises(MemoryError), bounded(memory=16 << 20):
        bytearray(64 << 20)
    assert len(bytearray(64 << 20)) == 64 << 20


def test_endless_loop_ends_even_where_all_exceptions_are_caught() -> None:
    def loop() -> None:
        for _ in itertools.count():
            try:
                sum(range(1000))
            except Exception:  # noqa: S112 - that is the point
                continue

    with pytest.raises(AssertionError, match="still at it"), bounded(seconds=0.05):
        loop()
