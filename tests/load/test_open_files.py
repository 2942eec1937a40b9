"""Files that stay open while the worker is killed, and a snapshot is taken by the next one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.load.served import Served
from tests.load.world import DATA_PATHS
from tests.mounts import run_unionfs


@pytest.mark.parametrize("data_path", DATA_PATHS)
@pytest.mark.parametrize("name", ["lower", "new"])
def test_open_for_writing_over_a_kill_and_a_snapshot_is_the_file_of_that_name(data_path: str, name: str, tmp_path: Path) -> None:
    """Its descriptor writes to what has the name, not to the snapshot."""
    for directory in ("lower", "upper", "merged"):
        (tmp_path / directory).mkdir()
    (tmp_path / "lower/lower").write_bytes(b"lower")
    merged = tmp_path / "merged"
    run_unionfs(["mount", "--data-path", data_path, "-l", tmp_path / "lower", "-u", tmp_path / "upper", merged])
    fd = os.open(merged / name, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, b"before", 0)
        served = Served(merged)
        served.next_worker(served.kill_worker())
        run_unionfs(["snapshot", "take", merged, "taken"])
        os.pwrite(fd, b"after!", 0)
        again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND)
        os.write(again, b" and more")
        os.close(again)
        assert os.pread(fd, 100, 0) == (merged / name).read_bytes() == b"after! and more"
        (frozen,) = tmp_path.glob(f".upper.snapshots/*/layer/{name}")
        assert frozen.read_bytes() == b"before"
    finally:
        os.close(fd)
        run_unionfs(["umount", merged])


def test_open_for_reading_over_a_copy_up_a_kill_and_a_snapshot_does_not_hinder_writers(tmp_path: Path) -> None:
    for directory in ("lower", "upper", "merged"):
        (tmp_path / directory).mkdir()
    (tmp_path / "lower/file").write_bytes(b"lower")
    merged = tmp_path / "merged"
    run_unionfs(["mount", "-l", tmp_path / "lower", "-u", tmp_path / "upper", merged])
    try:
        with (merged / "file").open("rb") as reader:
            assert reader.read(1) == b"l"
            (merged / "file").write_bytes(b"copied up")
            served = Served(merged)
            served.next_worker(served.kill_worker())
            run_unionfs(["snapshot", "take", merged, "taken"])
            (merged / "file").write_bytes(b"written")
        assert (merged / "file").read_bytes() == b"written"
    finally:
        run_unionfs(["umount", merged])
