"""How the data of a copy-up gets from one file to another."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.overlay.conftest import Open
from unionfs.overlay import data_copy

KIB = 1024
MIB = 1024 * KIB


@dataclass
class Cloning:
    """Blocks that cannot be shared: with which errors, the last one for all that follow, and how often somebody tried."""

    errors: list[int] = field(default_factory=lambda: [errno.EOPNOTSUPP])
    tried: int = 0

    def refuse(self, _target_fd: int, _source_fd: int) -> None:
        """In place of `clone_range`."""
        number = self.errors[min(self.tried, len(self.errors) - 1)]
        self.tried += 1
        raise OSError(number, os.strerror(number))


@pytest.fixture
def cloning(monkeypatch: pytest.MonkeyPatch) -> Cloning:
    cloning = Cloning()
    monkeypatch.setattr(data_copy, "clone_range", cloning.refuse)
    return cloning


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY])
def test_layer_that_cannot_share_blocks_is_asked_once(open_union: Open, tmp_path: Path, cloning: Cloning, number: int) -> None:
    cloning.errors = [number]
    client = open_union({"small": b"small", "large": b"large" * MIB, "other": b"other"})
    for name in ("small", "large", "other"):
        client.chmod(name, 0o600)
        assert (tmp_path / "upper" / name).read_bytes() == (tmp_path / "lower0" / name).read_bytes()
    assert cloning.tried == 1


def test_one_file_whose_blocks_cannot_be_shared_says_nothing_about_others(open_union: Open, cloning: Cloning) -> None:
    cloning.errors = [errno.EINVAL, errno.ETXTBSY, errno.EOPNOTSUPP]
    client = open_union(dict.fromkeys("abcd", b"data"))
    for name in "abcd":
        client.chmod(name, 0o600)
    assert cloning.tried == 3


def test_error_of_cloning_that_is_no_refusal_is_that_of_the_copy_up(open_union: Open, tmp_path: Path, cloning: Cloning) -> None:
    cloning.errors = [errno.ENOSPC]
    client = open_union({"f": b"data"})
    with pytest.raises(OSError, match="No space left"):
        client.chmod("f", 0o600)
    assert list((tmp_path / "upper").iterdir()) == []


@pytest.mark.usefixtures("cloning")
@pytest.mark.parametrize("size", [1, 4 * KIB, 64 * KIB, 64 * KIB + 1, 3 * MIB + 5])
@pytest.mark.parametrize("holes", ["none", "begin", "middle", "end", "all"])
def test_data_and_holes_are_those_of_the_source(tmp_path: Path, size: int, holes: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    data = bytes(range(1, 256)) * (size // 255 + 1)
    spans = {"none": [(0, size)], "begin": [(size * 3 // 4, size)], "end": [(0, size // 4)], "all": []}
    with source.open("wb") as file:
        file.truncate(size)
        for start, end in spans.get(holes, [(0, size // 4), (size * 3 // 4, size)]):
            file.seek(start)
            file.write(data[start:end])
        file.flush()
        os.fsync(file.fileno())
    with source.open("rb") as file, target.open("w+b") as copy:
        data_copy.copy_data(file.fileno(), copy.fileno(), size, data_copy.Reflinks())
        os.fsync(copy.fileno())
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks
