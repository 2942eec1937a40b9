"""The figures of requests by kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.fuse.protocol import Opcode
from unionfs.fuse.request_times import RequestTimes, end, opcode_name, quantile


def test_a_time_goes_into_the_bucket_of_its_power_of_two() -> None:
    times = RequestTimes()
    for elapsed in (1023, 1024, 2047, 2048):
        end(times.begin(Opcode.LOOKUP), elapsed)
    assert times.describe()["lookup"]["buckets"] == [(10, 1), (11, 2), (12, 1)]
    assert times.describe()["lookup"]["total_ns"] == 1023 + 1024 + 2047 + 2048


def test_a_request_counts_when_it_begins_and_its_time_when_it_ends() -> None:
    times = RequestTimes()
    cells = times.begin(Opcode.FSYNC)
    assert times.counts() == {"fsync": 1}
    assert times.describe()["fsync"]["buckets"] == []
    end(cells, 5)
    assert times.describe()["fsync"]["buckets"] == [(3, 1)]


def test_errors_are_counted_by_kind_and_in_all() -> None:
    times = RequestTimes()
    times.begin(Opcode.RMDIR)
    times.fail(Opcode.RMDIR)
    times.begin(Opcode.LOOKUP)
    assert times.describe()["rmdir"]["errors"] == 1
    assert times.describe()["lookup"]["errors"] == 0
    assert times.errors() == 1


def test_an_unknown_opcode_has_a_name() -> None:
    assert opcode_name(4000) == "opcode_4000"


def test_quantile_of_nothing_is_zero() -> None:
    assert quantile([], 0.5) == 0


@given(st.lists(st.integers(1, 2**40), min_size=1), st.floats(0, 1))
def test_quantile_is_right_to_a_factor_of_two(elapsed: list[int], q: float) -> None:
    times = RequestTimes()
    for value in elapsed:
        end(times.begin(Opcode.READ), value)
    exact = sorted(elapsed)[min(int(q * len(elapsed)), len(elapsed) - 1)]
    lower = sorted(elapsed)[max(int(q * len(elapsed)) - 1, 0)]
    assert lower / 2 <= quantile(times.describe()["read"]["buckets"], q) <= exact * 2


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_quantile_takes_buckets_as_json_has_them(q: float) -> None:
    assert 512 <= quantile([[10, 4]], q) <= 1024  # type: ignore[list-item]
