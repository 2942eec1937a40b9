"""Reading without waiting, and with."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.overlay.client import Client, build
from unionfs.overlay import Stack, Union


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_what_cannot_be_read_without_waiting_is_read_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    union = Union(Stack((build(tmp_path / "lower", {"f": b"contents"}),)))
    client = Client(union)
    node = client.node("f")
    monkeypatch.setattr(os, "preadv", refuse)
    assert bytes(client.call(union.read, node, 0, 100)) == b"contents"
    assert client.blocked == 1
    union.close()
