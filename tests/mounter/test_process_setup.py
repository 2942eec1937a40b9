"""What a serving process gets, each time in a process of its own; and which signals end it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from unionfs.linux.scheduling import current_slice
from unionfs.mounter.process_setup import stop_signals


def in_a_process(program: str) -> str:
    """What a Python program prints."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def test_a_prepared_process_runs_soon_and_briefly() -> None:
    printed = in_a_process(
        "from unionfs.linux.scheduling import current_slice\n"
        "from unionfs.mounter.process_setup import prepare_process\n"
        "prepare_process()\n"
        "print(current_slice())"
    )
    # Before Linux 6.12 there are no slices to ask for.
    assert int(printed) == (100_000 if current_slice() else 0)


def test_a_process_that_may_not_choose_its_slice_is_prepared_all_the_same() -> None:
    printed = in_a_process(
        "import os, unionfs.linux.scheduling as scheduling\n"
        "from unionfs.mounter.process_setup import prepare_process\n"
        "scheduling._NUMBERS.clear()\n"
        "os.umask(0o77)\n"
        "prepare_process()\n"
        "print(os.umask(0))"
    )
    assert int(printed) == 0


@pytest.fixture
def _hangup_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangup_ignored")
def test_a_signal_that_is_ignored_does_not_end_a_mount() -> None:
    assert stop_signals() == [signal.SIGTERM, signal.SIGINT]
