from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from unionfs.linux.statx import birth_time


def test_birth_is_when_the_file_was_made_whatever_its_other_times_say(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    made = path.stat().st_ctime_ns
    os.utime(path, ns=(1, 1))
    assert birth_time(os.fsencode(path), follow_symlinks=True) == made


def test_agrees_with_stat_to_the_nanosecond(tmp_path: Path) -> None:
    shown = subprocess.run(["stat", "-c", "%.9W", tmp_path], capture_output=True, text=True, check=True).stdout
    assert birth_time(os.fsencode(tmp_path), follow_symlinks=True) == int(shown.replace(".", ""))


def test_symbolic_link_is_followed_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    link = tmp_path / "link"
    link.symlink_to("file")
    assert birth_time(os.fsencode(link), follow_symlinks=True) == birth_time(os.fsencode(tmp_path / "file"), follow_symlinks=True)
    (tmp_path / "file").unlink()
    assert birth_time(os.fsencode(link), follow_symlinks=False)
    with pytest.raises(FileNotFoundError):
        birth_time(os.fsencode(link), follow_symlinks=True)


def test_filesystem_without_times_of_birth_has_none() -> None:
    assert birth_time(b"/proc/self/stat", follow_symlinks=False) is None
