"""The slice of a thread, read back; each time of a thread that ends with the test."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from unionfs.linux import scheduling
from unionfs.linux.scheduling import ask_for_slice, current_slice

_SLICE_NS = 100_000


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """One thread, for all that is submitted to it."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def slice_after_asking() -> tuple[int, int]:
    """The slices before and after."""
    before = current_slice()
    ask_for_slice(_SLICE_NS)
    return before, current_slice()


def test_the_kernel_takes_what_is_asked(thread: ThreadPoolExecutor) -> None:
    before, after = thread.submit(slice_after_asking).result()
    # Before Linux 6.12 there is no such thing, and no error either.
    assert after == (_SLICE_NS if before else 0)


def test_policy_and_nice_value_stay(thread: ThreadPoolExecutor) -> None:
    def change_and_ask() -> tuple[int, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, 7)
        ask_for_slice(_SLICE_NS)
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)

    assert thread.submit(change_and_ask).result() == (os.SCHED_BATCH, 7)


def test_policy_without_slices_is_an_error(thread: ThreadPoolExecutor) -> None:
    def change_and_ask() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        ask_for_slice(_SLICE_NS)

    with pytest.raises(OSError, match="no slices") as caught:
        thread.submit(change_and_ask).result()
    assert caught.value.errno == errno.EINVAL


def test_machine_whose_numbers_are_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_NUMBERS", {})
    for call in (current_slice, lambda: ask_for_slice(_SLICE_NS)):
        with pytest.raises(OSError, match="not implemented") as caught:
            call()
        assert caught.value.errno == errno.ENOSYS
