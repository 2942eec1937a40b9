"""What counts as flat."""

from __future__ import annotations

import os

from tests.load.samples import Sample, Trend, sample_of, taken_by, trends


def sample(open_files: float) -> Sample:
    return Sample(rss_mib=40, pss_mib=30, open_files=open_files, inodes=3000, p50_us=100, p99_us=1000)


def trend(samples: list[Sample], figure: str) -> Trend:
    return next(each for each in trends(samples) if each.figure == figure)


def test_the_last_third_is_compared_with_the_one_before_and_not_with_the_first() -> None:
    found = trend([sample(files) for files in (10, 20, 30, 500, 510, 520, 500, 490, 530)], "open_files")
    assert (found.second_third, found.last_third) == (510, 500)
    assert found.is_flat


def test_what_grows_is_not_flat() -> None:
    samples = [sample(100 * number) for number in range(9)]
    assert not trend(samples, "open_files").is_flat
    assert trend(samples, "inodes").is_flat


def test_open_files_are_counted_once_and_those_that_may_be_closed_again_not_at_all() -> None:
    taken = [(1024, 512, 150), (2048, 1024, 150)]
    found = sample_of(taken, {"open_files": 100, "inodes": 7}, 1, 2)
    assert found == Sample(rss_mib=3, pss_mib=1.5, open_files=50, inodes=7, p50_us=1, p99_us=2)


def test_fewer_than_three_samples_tell_nothing() -> None:
    assert trends([sample(1), sample(2)]) == []


def test_a_process_takes_memory_and_open_files() -> None:
    rss, pss, files = taken_by(os.getpid())
    fd = os.open("/", os.O_PATH)
    assert taken_by(os.getpid())[2] == files + 1
    os.close(fd)
    assert 1000 < pss <= rss < 10**6
