"""How long the fuzzing tests look: a moment in the suite, longer by ``UNIONFS_FUZZ_TIMES`` (see scripts/fuzz)."""

from __future__ import annotations

import os

import hypothesis

TIMES = int(os.environ.get("UNIONFS_FUZZ_TIMES", "1"))
"""How many times as many examples as in the suite."""


def effort(examples: int) -> hypothesis.settings:
    """Settings for a test of so many examples in the suite."""
    slow = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
    return hypothesis.settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=slow)
