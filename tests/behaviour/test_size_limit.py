"""A size limit through a mount, on each transport; the oracle is a tmpfs of that size, which real programs meet the same way."""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import MountFailedError, run_unionfs

LIMIT = 4 << 20


@pytest.fixture(params=["direct", "pyfuse3", "tmpfs"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mount that holds 4 MiB."""
    merged = tmp_path / "merged"
    merged.mkdir()
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LIMIT}", "none", merged], check=True)
        yield merged
        subprocess.run(["umount", merged], check=True)
        return
    for name in ("lower", "upper"):
        (tmp_path / name).mkdir()
    arguments = ["--transport", request.param, "--size", "4M", "-l", tmp_path / "lower", "-u", tmp_path / "upper", merged]
    run_unionfs(["mount", *arguments])
    yield merged
    run_unionfs(["umount", merged])


def available(path: Path) -> int:
    st = os.statvfs(path)
    return st.f_bavail * st.f_frsize


def fill(fd: int) -> int:
    """Write until write(2) itself says that there is no room; how much there was."""
    written = 0
    while True:
        try:
            written += os.write(fd, b"x" * 300_000)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return written


def wait_for_room(path: Path, size: int) -> None:
    """The kernel tells of the end of a file (FORGET) a moment after unlink(2) or close(2) has returned."""
    deadline = time.monotonic() + 20
    while available(path) < size:
        assert time.monotonic() < deadline, f"{available(path)} bytes free, not {size}"
        time.sleep(0.01)  # between two looks only


def test_df_shows_the_limit(limited: Path) -> None:
    st = os.statvfs(limited)
    assert st.f_blocks * st.f_frsize == LIMIT
    assert LIMIT - 65536 <= available(limited) <= LIMIT


def test_write_fails_at_the_limit_and_all_before_it_is_there(limited: Path) -> None:
    fd = os.open(limited / "file", os.O_RDWR | os.O_CREAT)
    room = available(limited)
    assert fill(fd) == room
    os.fsync(fd)
    assert available(limited) == 0
    os.close(fd)
    assert (limited / "file").read_bytes() == b"x" * room
    (limited / "empty").touch()
    (limited / "file").unlink()
    wait_for_room(limited, room - 65536)


def test_removed_but_open_file_keeps_its_room(limited: Path) -> None:
    fd = os.open(limited / "file", os.O_RDWR | os.O_CREAT)
    fill(fd)
    (limited / "file").unlink()
    assert available(limited) == 0
    os.close(fd)
    wait_for_room(limited, LIMIT - 65536)


def test_full_mount_takes_overwriting_and_truncation_makes_room(limited: Path) -> None:
    fd = os.open(limited / "file", os.O_RDWR | os.O_CREAT)
    size = fill(fd)
    assert os.pwrite(fd, b"again", 1000) == 5
    os.ftruncate(fd, size // 2)
    assert available(limited) >= size // 2 - 4096
    os.close(fd)


def test_allocation_is_refused_beyond_the_limit(limited: Path) -> None:
    fd = os.open(limited / "file", os.O_RDWR | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        os.posix_fallocate(fd, 0, LIMIT + 4096)
    os.close(fd)


def test_memory_map_is_told_by_msync(tmp_path: Path) -> None:
    """Not as with tmpfs, which ends the writer with SIGBUS: the pages of a FUSE file are written later."""
    for name in ("lower", "upper", "merged"):
        (tmp_path / name).mkdir()
    merged = tmp_path / "merged"
    run_unionfs(["mount", "--size", "4M", "-l", tmp_path / "lower", "-u", tmp_path / "upper", merged])
    fd = os.open(merged / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 2 * LIMIT)
    with mmap.mmap(fd, 2 * LIMIT) as pages:
        pages[:] = b"m" * (2 * LIMIT)
        with pytest.raises(OSError, match="No space"):
            pages.flush()
    os.close(fd)
    status = json.loads(run_unionfs(["status", "--json", merged]))
    assert status["union"]["size_used"] <= LIMIT
    assert "writeback_cache" not in status["negotiated"]["flags"]
    assert f"accounted, {status['union']['size_used']} of {LIMIT} bytes taken" in run_unionfs(["status", merged])
    run_unionfs(["umount", merged])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--data-path", "passthrough"], "data_path=passthrough: not possible with size"),
        (["-o", "ro"], "size: there is no writable layer to limit"),
        (["-o", "size=0"], "size=0: bad value"),
    ],
)
def test_what_cannot_be_limited_is_refused(tmp_path: Path, arguments: list[str], problem: str) -> None:
    for name in ("lower", "upper", "merged"):
        (tmp_path / name).mkdir()
    size = [] if "size=0" in arguments else ["--size", "1M"]
    with pytest.raises(MountFailedError, match=problem):
        run_unionfs(["mount", *size, *arguments, "-l", tmp_path / "lower", "-u", tmp_path / "upper", tmp_path / "merged"])
