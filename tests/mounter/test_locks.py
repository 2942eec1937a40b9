"""One mount has an upper and its work at a time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from unionfs.mounter import locks
from unionfs.mounter.errors import RefusedError
from unionfs.mounter.locks import locked

_HOLDER = """
import signal, sys
from pathlib import Path
from unionfs.mounter.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_a_locked_directory_is_refused_to_the_next_mount(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RefusedError, match=rf"^{tmp_path}: in use by another union; "), locked(tmp_path):
        pytest.fail("locked twice")


def test_a_directory_is_free_again_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            pass


def test_a_mount_with_patience_waits_for_a_holder_that_is_about_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "runtime"))
    held = contextlib.ExitStack()
    held.enter_context(locked(tmp_path))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        held.close()

    monkeypatch.setattr(locks.time, "sleep", pause)
    with locked(tmp_path, patience=60):
        assert len(pauses) == 1


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RefusedError), locked(tmp_path):
            pytest.fail("locked twice")
        holder.kill()
    with locked(tmp_path):
        pass
