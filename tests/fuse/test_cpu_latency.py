"""When the direct session keeps idle processors awake."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.serving import served, wait_until
from unionfs.fuse import direct_session
from unionfs.fuse.session import SessionSettings

LONG_US = 200_000
"""A window for busy-waiting that any requests in a row are in, however slow the machine."""


class RecordedLatency:
    """Stands for `unionfs.linux.cpu_latency.CpuLatency`."""

    def __init__(self) -> None:
        self.is_held = False
        self.calls: list[str] = []

    def hold(self) -> None:
        self.is_held = True
        self.calls.append("hold")

    def let_go(self) -> None:
        self.is_held = False
        self.calls.append("let go")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> RecordedLatency:
    recorded = RecordedLatency()
    monkeypatch.setattr(direct_session, "CpuLatency", lambda: recorded)
    return recorded


_numbers = itertools.count()


def ask(mountpoint: Path, count: int) -> None:
    """Send so many requests, each for a name of its own."""
    for number in itertools.islice(_numbers, count):
        with contextlib.suppress(FileNotFoundError):
            (mountpoint / str(number)).stat()


def test_processors_are_kept_awake_for_a_burst_of_requests_and_no_longer(
    mountpoint: Path, filesystem: FakeFilesystem, latency: RecordedLatency
) -> None:
    with served(mountpoint, filesystem, SessionSettings(spin_us=LONG_US)):
        assert latency.calls == []

        def is_held() -> bool:
            ask(mountpoint, 40)
            return latency.calls == ["hold"]

        wait_until(is_held)
        wait_until(lambda: latency.calls == ["hold", "let go"])
    assert latency.calls == ["hold", "let go", "close"]


def test_processors_are_left_alone_without_busy_waiting(
    mountpoint: Path, filesystem: FakeFilesystem, latency: RecordedLatency
) -> None:
    with served(mountpoint, filesystem, SessionSettings(spin_us=0)):
        ask(mountpoint, 40)
    assert latency.calls == []


def test_who_may_not_keep_processors_awake_is_served_all_the_same(
    mountpoint: Path, filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise PermissionError

    monkeypatch.setattr(direct_session, "CpuLatency", refuse)
    with served(mountpoint, filesystem, SessionSettings(spin_us=LONG_US)) as running:
        ask(mountpoint, 40)
        assert running.session.counters["lookup"] == 40
