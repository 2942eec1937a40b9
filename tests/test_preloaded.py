"""A command that is run preloaded is as one that is started."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import preloaded
from tests.behaviour.process import in_child
from tests.programs import UNIONFS, ProgramFailedError, run


@pytest.mark.parametrize("arguments", [["--version"], ["ls"], ["umount", "/nowhere\udcff"], ["frobnicate"], ["mount", "--help"]])
def test_it_ends_and_prints_as_one_that_is_started(arguments: list[str]) -> None:
    assert preloaded.run(arguments) == run([UNIONFS, *arguments], status=None)


def test_it_has_the_environment_that_is_given(tmp_path: Path) -> None:
    assert os.listdir(tmp_path) == []
    assert preloaded.run(["image", "ls"], environment={**os.environ, "UNIONFS_ROOT": str(tmp_path / "store")}).status == 0
    assert os.listdir(tmp_path) == ["store"]


def test_it_stands_where_we_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert preloaded.run(["image", "ls", "--root", "here"]).status == 0
    assert os.listdir(tmp_path) == ["here"]


def test_it_stands_in_a_directory_that_is_removed_where_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    assert preloaded.run(["--version"]).status == 0


def test_it_has_our_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert preloaded.run(["image", "ls", "--root", tmp_path / "above/store"]).status == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "above").stat().st_mode) == 0o750


def test_it_has_our_limits(tmp_path: Path) -> None:
    merged, lower = tmp_path / "merged", tmp_path / "lower"
    merged.mkdir()
    lower.mkdir()
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (4096, before[1]))
    try:
        assert preloaded.run(["mount", "-l", lower, merged]).status == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    daemon = daemon_of(merged)
    assert resource.prlimit(daemon, resource.RLIMIT_CORE) == (4096, before[1])
    assert preloaded.run(["umount", merged]).status == 0


def daemon_of(mountpoint: Path) -> int:
    daemon = json.loads(preloaded.run(["status", "--json", mountpoint]).stdout)["pid"]
    assert isinstance(daemon, int)
    return daemon


def test_proc_shows_its_environment(tmp_path: Path) -> None:
    merged, lower = tmp_path / "merged", tmp_path / "lower"
    merged.mkdir()
    lower.mkdir()
    environment = os.environ | {"MARK": "long" * 10_000}
    assert preloaded.run(["mount", "-l", lower, merged], environment=environment).status == 0
    shown = Path(f"/proc/{daemon_of(merged)}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert shown == [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    assert preloaded.run(["umount", merged]).status == 0


def test_a_forked_process_has_a_server_of_its_own(tmp_path: Path) -> None:
    def make_store() -> int:
        return preloaded.run(["image", "ls", "--root", "store"]).status

    assert preloaded.run(["--version"]).status == 0
    assert in_child(make_store, cwd=tmp_path, gid=12345) == 0
    assert (tmp_path / "store").stat().st_gid == 12345


def test_the_server_ends_though_a_process_that_was_forked_goes_on() -> None:
    assert preloaded.run(["--version"]).status == 0
    forked = os.fork()
    if not forked:
        signal.pause()
    try:
        preloaded.end()
    finally:
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)


@pytest.fixture
def blocking(tmp_path: Path) -> tuple[list[str], Path]:
    """A command that waits until somebody opens a file for writing; and that file."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    return ["run", "--root", str(tmp_path / "store"), "--env-file", str(fifo), "no-image"], fifo


def test_several_run_at_once(blocking: tuple[list[str], Path]) -> None:
    command, fifo = blocking
    with ThreadPoolExecutor() as pool:
        blocked = pool.submit(preloaded.run, command)
        assert preloaded.run(["--version"]).status == 0
        assert not blocked.done()
        fifo.write_text("")
    assert "no-image" in blocked.result().stderr


def test_one_that_does_not_end_is_killed(blocking: tuple[list[str], Path]) -> None:
    command, fifo = blocking
    with pytest.raises(ProgramFailedError, match=r"--env-file .*: no end after 0 s\nstdout: nothing"):
        preloaded.run(command, limit=0.1)
    with pytest.raises(OSError, match="No such device or address"):  # nobody waits for a writer
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
