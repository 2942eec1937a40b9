"""Waiting for operations of clients."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tests.load import progress as module
from tests.load.progress import Progress, StalledError
from tests.programs import wait_until


@pytest.fixture
def progress() -> Iterator[Progress]:
    progress = Progress()
    yield progress
    progress.end()
    progress.close()


def test_a_wait_ends_when_the_clients_have_done_so_much_more(progress: Progress) -> None:
    before = 10
    os.write(progress.write_end, b"." * before)
    wait_until(lambda: progress.count == before, "the count of what was done before")
    has_ended = threading.Event()

    def work() -> None:
        while not has_ended.is_set():
            os.write(progress.write_end, b".")

    client = threading.Thread(target=work)
    client.start()
    try:
        assert progress.wait_for(5)
    finally:
        has_ended.set()
        client.join()
    assert progress.count >= before + 5


def test_a_wait_ends_with_the_load(progress: Progress) -> None:
    threading.Thread(target=progress.end).start()
    assert not progress.wait_for(1)
    assert not progress.pause(60)


def test_a_load_that_does_nothing_any_more_is_told(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED", 0.0)
    with pytest.raises(StalledError, match="no client"):
        progress.wait_for(1)
