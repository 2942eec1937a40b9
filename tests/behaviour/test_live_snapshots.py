"""Snapshots under writers that never pause: they see no error and lose nothing."""

from __future__ import annotations

import mmap
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import DIRECT, DIRECT_CACHED, PYFUSE3, UnionfsBackend, run_unionfs
from unionfs.mounter.snapshots import list_snapshots, take_snapshot

_SIZE = 256 << 10


class Fsx:
    """Random reads and writes of one file, by calls and through a mapping, each checked against what must be there (like fsx)."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._choose = random.Random(seed)  # noqa: S311  no secret
        self.expected = bytearray(_SIZE)
        path.write_bytes(self.expected)
        self._file = path.open("r+b", buffering=0)
        self._map = mmap.mmap(self._file.fileno(), _SIZE)

    def step(self) -> None:
        """One operation."""
        choose = self._choose
        start = choose.randrange(_SIZE)
        length = choose.randint(1, min(_SIZE - start, 20_000))
        data = choose.randbytes(length)
        operation = choose.choice(("write", "map", "read", "reopen", "read through the map"))
        if operation == "write":
            assert os.pwrite(self._file.fileno(), data, start) == length
        elif operation == "map":
            self._map[start : start + length] = data
        elif operation == "read":
            assert os.pread(self._file.fileno(), length, start) == self.expected[start : start + length]
        elif operation == "read through the map":
            assert self._map[start : start + length] == self.expected[start : start + length]
        else:
            self._reopen()
        if operation in ("write", "map"):
            self.expected[start : start + length] = data

    def _reopen(self) -> None:
        self._map.close()
        self._file.close()
        assert self._path.read_bytes() == self.expected
        self._file = self._path.open("r+b", buffering=0)
        self._map = mmap.mmap(self._file.fileno(), _SIZE)

    def close(self) -> None:
        """The end: everything is as it must be."""
        self._reopen()
        self._map.close()
        self._file.close()


@pytest.fixture(params=[DIRECT, DIRECT_CACHED, PYFUSE3], ids=lambda backend: backend.name)
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, UnionfsBackend]]:
    backend: UnionfsBackend = request.param
    for name in ("lower", "upper", "merged"):
        (tmp_path / name).mkdir()
    run_unionfs(["mount", *backend.arguments, "-l", tmp_path / "lower", "-u", tmp_path / "upper", tmp_path / "merged"])
    yield tmp_path, backend
    backend.umount(tmp_path / "merged")


def test_fsx_sees_no_error_while_snapshots_are_taken(mounted: tuple[Path, UnionfsBackend]) -> None:
    top, _ = mounted
    merged = top / "merged"
    (merged / "d").mkdir()
    files = [Fsx(merged / "d/one", 1), Fsx(merged / "two", 2)]
    frozen: list[tuple[Path, bytes, bytes]] = []
    for number in range(1, 801):
        files[number % 2].step()
        if number % 100 == 0:
            # Nobody writes just now, so the snapshot must hold exactly what was written.
            layer = Path(take_snapshot(merged, None).layer)
            frozen.append((layer, bytes(files[0].expected), bytes(files[1].expected)))
    for file in files:
        file.close()
    for number, (_, one, two) in enumerate(frozen):
        assert _content(frozen, number, "d/one") == one
        assert _content(frozen, number, "two") == two


def _content(frozen: list[tuple[Path, bytes, bytes]], number: int, name: str) -> bytes:
    return next((layer / name).read_bytes() for layer, *_ in reversed(frozen[: number + 1]) if (layer / name).exists())


def test_writers_that_never_pause_lose_nothing(mounted: tuple[Path, UnionfsBackend]) -> None:
    top, backend = mounted
    merged = top / "merged"
    failures: list[BaseException] = []
    stop = threading.Event()
    writers = [Fsx(merged / f"file{number}", number) for number in range(2)]

    def work(writer: Fsx) -> None:
        try:
            while not stop.is_set():
                writer.step()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for number in range(5):
        take_snapshot(merged, f"during {number}")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    for writer in writers:
        writer.close()
    backend.umount(merged)
    run_unionfs(["mount", *backend.arguments, "-l", top / "lower", "-u", top / "upper", merged])
    for number, writer in enumerate(writers):
        assert (merged / f"file{number}").read_bytes() == writer.expected
    assert len(list_snapshots(merged)) == 5
