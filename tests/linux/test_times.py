from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from unionfs.linux.times import NOW, set_times

_THEN = 1_234_567_890_123_456_789
_CLOCK_REALTIME_COARSE = 5  # include/uapi/linux/time.h; the clock that the kernel stamps files by


def test_times_are_set_to_the_nanosecond_also_before_the_epoch(tmp_path: Path) -> None:
    set_times(bytes(tmp_path), _THEN, -1_500_000_000)
    assert (tmp_path.stat().st_atime_ns, tmp_path.stat().st_mtime_ns) == (_THEN, -1_500_000_000)


def test_time_that_is_none_stays(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(1, 2))
    set_times(bytes(tmp_path), None, _THEN)
    set_times(bytes(tmp_path), None, None)
    assert (tmp_path.stat().st_atime_ns, tmp_path.stat().st_mtime_ns) == (1, _THEN)


def test_now_is_the_time_of_the_call(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(1, 2))
    before = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    set_times(bytes(tmp_path), None, NOW)
    assert before <= tmp_path.stat().st_mtime_ns <= time.time_ns()
    assert tmp_path.stat().st_atime_ns == 1


@pytest.mark.parametrize("follow", [False, True])
def test_link_is_followed_on_demand(tmp_path: Path, follow: bool) -> None:
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").touch()
    set_times(bytes(tmp_path / "link"), None, _THEN, follow)
    changed = {name for name in ("link", "file") if (tmp_path / name).lstat().st_mtime_ns == _THEN}
    assert changed == {"file" if follow else "link"}


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        set_times(bytes(tmp_path / "none"), 0, 0)
    assert caught.value.filename == bytes(tmp_path / "none")


def test_times_are_set_by_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        set_times(fd, None, _THEN)
    finally:
        os.close(fd)
    assert path.stat().st_mtime_ns == _THEN


def test_a_descriptor_that_is_not_open_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        set_times(1 << 20, 0, 0)
