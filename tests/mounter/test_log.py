"""Where a daemon's log is."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unionfs.mounter.log import default_log


@pytest.fixture(autouse=True)
def _log_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_LOG_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("mountpoint", "name"),
    [
        ("/mnt/merged", "mnt-merged.log"),
        ("/mnt/a-b", "mnt-a\\x2db.log"),
        ("/", "-.log"),
        ("/a b", "a\\x20b.log"),
        ("/a\nb", "a\\x0ab.log"),
    ],
)
def test_the_log_is_named_after_the_mount_point(tmp_path: Path, mountpoint: str, name: str) -> None:
    assert default_log(Path(mountpoint)) == tmp_path / name


def test_a_long_mount_point_still_makes_a_file_name(tmp_path: Path) -> None:
    name = default_log(Path("/", *["x" * 60] * 8, "merged")).name
    assert name.endswith("-merged.log")
    (tmp_path / name).touch()


def test_users_have_their_logs_in_their_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIONFS_LOG_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/.state")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_log(Path("/m")) == Path("/home/u/.state/unionfs/m.log")


def test_there_is_a_file_only_when_there_is_trouble(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "m.log"
    program = f"""
import logging
from pathlib import Path
from unionfs.mounter.log import log_to_file
log = Path({str(log)!r})
log_to_file(log)
logging.getLogger("unionfs").info("all is well")
assert not log.exists()
logging.getLogger("unionfs").warning("trouble")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert log.read_text().endswith(f" {logging.getLevelName(logging.WARNING)} unionfs: trouble\n")
