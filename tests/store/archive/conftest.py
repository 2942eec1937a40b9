"""Unpacking into a directory of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.store.tars import Entry, joined, stream, tar_of
from unionfs.store.recipe import reassemble
from unionfs.store.unpack import Unpacked, unpack_layer


class Bench:
    """A directory ``diff``, its recipe beside it, and what was unpacked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.diff = directory / "diff"
        self.recipe = directory / "recipe"
        self.diff.mkdir(parents=True)

    def unpack(self, *entries: Entry) -> Unpacked:
        return self.unpack_bytes(tar_of(*entries))

    def unpack_bytes(self, data: bytes) -> Unpacked:
        """Every archive that is unpacked must come out again as it was."""
        unpacked = unpack_layer(stream(data), self.diff, self.recipe, thing="some.tar")
        assert unpacked.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert joined(reassemble(self.diff, self.recipe)) == data
        return unpacked


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "layer")
