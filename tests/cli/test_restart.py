"""Mounts whose worker dies or is replaced: programs notice a pause."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BIN, TIMEOUT, Layers, Programs
from tests.mounts import is_mounted
from tests.programs import started, wait_until
from unionfs.linux.links import link_fd

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["passthrough", "cached"])
def merged(programs: Programs, layers: Layers, request: pytest.FixtureRequest) -> Iterator[Path]:
    programs.unionfs("mount", "--data-path", request.param, *layers.arguments)
    with pytest.MonkeyPatch.context() as patch:
        # A test may go into the mount, which could not be unmounted then.
        patch.chdir("/")
        yield layers.merged
        os.chdir("/")
        programs.unionfs("umount", layers.merged)


def status(programs: Programs, merged: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(programs.unionfs("status", "--json", merged))
    return answer


def kill_worker(programs: Programs, merged: Path) -> None:
    """Returns at once: whatever is asked next meets no worker, or one that is just taking over."""
    os.kill(status(programs, merged)["worker"]["pid"], signal.SIGKILL)


def test_files_stay_open_when_the_worker_is_killed(programs: Programs, merged: Path) -> None:
    with (merged / "base").open("r+") as upper, (merged / "both").open() as lower:
        upper.write("BA")
        upper.flush()
        kill_worker(programs, merged)
        upper.write("SE")
        upper.flush()
        assert lower.read() == "top\n"
    assert (merged / "base").read_text() == "BASE\n"
    assert sorted(os.listdir(merged)) == ["base", "both"]


def test_file_without_a_name_is_read_and_written_on(programs: Programs, merged: Path) -> None:
    with (merged / "new").open("w+") as upper, (merged / "both").open() as lower:
        upper.write("one ")
        upper.flush()
        (merged / "new").unlink()
        (merged / "both").unlink()
        kill_worker(programs, merged)
        upper.write("two")
        upper.seek(0)
        assert (upper.read(), os.fstat(upper.fileno()).st_nlink) == ("one two", 0)
        assert (lower.read(), os.fstat(lower.fileno()).st_nlink) == ("top\n", 0)
    assert os.listdir(merged) == ["base"]


def test_unnamed_file_gets_its_name_from_the_next_worker(programs: Programs, merged: Path) -> None:
    fd = os.open(merged, os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b"unnamed")
    kill_worker(programs, merged)
    directory = os.open(merged, os.O_RDONLY)
    link_fd(fd, directory, b"named")
    os.close(directory)
    os.close(fd)
    assert (merged / "named").read_text() == "unnamed"


def test_removed_directory_stays_a_current_directory(programs: Programs, merged: Path) -> None:
    (merged / "d").mkdir()
    os.chdir(merged / "d")
    (merged / "d").rmdir()
    kill_worker(programs, merged)
    assert os.listdir(".") == []
    with pytest.raises(FileNotFoundError):
        Path("new").touch()


def test_inodes_are_what_they_were(programs: Programs, merged: Path) -> None:
    (merged / "d").mkdir()
    (merged / "d/one").write_text("one")
    os.link(merged / "d/one", merged / "two")
    os.rename(merged / "d", merged / "e")
    names = ["base", "both", "e", "e/one", "two"]
    before = {name: os.stat(merged / name) for name in names}
    kill_worker(programs, merged)
    assert {name: (os.stat(merged / name).st_ino, os.stat(merged / name).st_nlink) for name in names} == {
        name: (found.st_ino, found.st_nlink) for name, found in before.items()
    }


def test_listing_goes_on_where_it_was(programs: Programs, merged: Path) -> None:
    names = {f"{number:04}" for number in range(3000)}
    (merged / "many").mkdir()
    for name in names:
        (merged / "many" / name).touch()
    with os.scandir(merged / "many") as listing:
        seen = [next(listing).name for _ in range(10)]
        for name in sorted(names - set(seen))[::100]:
            (merged / "many" / name).unlink()
            names.discard(name)
        (merged / "many/later").touch()
        kill_worker(programs, merged)
        seen += [entry.name for entry in listing]
    assert len(seen) == len(set(seen))
    assert names <= set(seen)


def test_programs_run_on(programs: Programs, merged: Path) -> None:
    shutil.copy("/bin/cat", merged / "cat")
    with subprocess.Popen([merged / "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        kill_worker(programs, merged)
        assert process.communicate(b"through", TIMEOUT)[0] == b"through"


def test_ls_and_status_tell_of_it(programs: Programs, merged: Path) -> None:
    before = status(programs, merged)
    assert before["worker"] == {"pid": before["worker"]["pid"], "restarts": 0, "last_end": None, "takeover_ms": 0.0}
    kill_worker(programs, merged)
    after = status(programs, merged)
    assert (after["pid"], after["state"], after["lost_nodes"]) == (before["pid"], "mounted", 0)
    assert (after["worker"]["restarts"], after["worker"]["last_end"]) == (1, "killed by SIGKILL")
    assert programs.ls()[0]["worker"] == after["worker"]
    assert "after 1 restarts (the last one: killed by SIGKILL)" in programs.unionfs("status", merged)
    assert programs.unionfs("ls").splitlines()[0].split()[3] == "RESTARTS"


def test_mount_is_unmounted_by_a_later_worker(programs: Programs, layers: Layers) -> None:
    beside = set(layers.upper.parent.iterdir())
    programs.unionfs("mount", *layers.arguments)
    kill_worker(programs, layers.merged)
    programs.unionfs("umount", layers.merged)
    assert programs.ls() == []
    assert set(layers.upper.parent.iterdir()) - {programs.registry} == beside


def test_signal_ends_a_mount_with_a_later_worker(programs: Programs, layers: Layers) -> None:
    with programs.foreground(*layers.arguments) as process:
        kill_worker(programs, layers.merged)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
    assert not is_mounted(layers.merged)


def test_snapshot_and_layers_of_a_later_worker(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    programs.unionfs("mount", *layers.arguments)
    (layers.merged / "base").write_text("one\n")
    programs.unionfs("snapshot", layers.merged, "first")
    (layers.merged / "base").write_text("two\n")
    kill_worker(programs, layers.merged)
    assert (layers.merged / "base").read_text() == "two\n"
    (tmp_path / "more").mkdir()
    (tmp_path / "more/more").write_text("more\n")
    programs.unionfs("layers", layers.merged, "add", tmp_path / "more")
    kill_worker(programs, layers.merged)
    assert (layers.merged / "more").read_text() == "more\n"
    programs.unionfs("snapshot", "rollback", layers.merged, "first")
    assert (layers.merged / "base").read_text() == "one\n"
    kill_worker(programs, layers.merged)
    assert (layers.merged / "base").read_text() == "one\n"
    programs.unionfs("umount", layers.merged)


def test_layer_above_a_snapshot_is_there_for_a_later_worker(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    programs.unionfs("mount", "-o", "index=on", *layers.arguments)
    (layers.merged / "base").write_text("one\n")
    programs.unionfs("snapshot", layers.merged, "first")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/base").write_text("more\n")
    programs.unionfs("layers", layers.merged, "add", "--top", tmp_path / "more")
    (layers.merged / "new").write_text("new\n")
    programs.unionfs("snapshot", layers.merged, "second")
    before = status(programs, layers.merged)["lowers"]
    for _ in range(2):
        kill_worker(programs, layers.merged)
        assert status(programs, layers.merged)["lowers"] == before
    assert (layers.merged / "base").read_text() == "more\n"
    assert (layers.merged / "new").read_text() == "new\n"
    programs.unionfs("umount", layers.merged)


@pytest.mark.expects_log_error("ends on an internal error|got nowhere|nobody serves it any more")
def test_mount_that_nobody_can_serve_is_dead_and_says_why(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    programs.unionfs("mount", *layers.arguments)
    layers.base.rename(tmp_path / "elsewhere")
    daemon = status(programs, layers.merged)["pid"]
    kill_worker(programs, layers.merged)
    wait_until(lambda: programs.ls()[0]["state"] == "dead", "the mount is given up")
    (listed,) = programs.ls()
    assert (listed["pid"], listed["worker"]["restarts"]) == (daemon, 11)
    assert listed["failure"].startswith("nobody serves it any more, after 11 restarts; the last worker was ended with status 71")
    assert listed["remedy"] == f"unionfs umount {layers.merged}"
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        (layers.merged / "a name that nobody asked for").stat()
    programs.unionfs("umount", layers.merged)
    assert programs.ls() == []


_HOLDS_A_DIRECTORY = """
import ctypes, mmap, os, sys
directory, slow = sys.argv[1:]
listed, file = os.open(directory, os.O_RDONLY), os.open(slow, os.O_RDWR)
memory = mmap.mmap(file, 4096)
place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
print("ready", flush=True)
sys.stdin.readline()
ctypes.CDLL(None).getdents64(listed, ctypes.c_void_p(place), ctypes.c_size_t(4096))
"""
"""getdents(2) holds the lock of the directory while it writes names into memory, which is that of a file of another mount."""


@pytest.fixture
def slow(programs: Programs, tmp_path: Path) -> Iterator[Path]:
    """A file of 4 KiB in another mount."""
    for name in ("slow-lower", "slow-upper", "slow"):
        (tmp_path / name).mkdir()
    (tmp_path / "slow-upper/file").write_bytes(bytes(4096))
    programs.unionfs(
        "mount", "--data-path", "cached", "-l", tmp_path / "slow-lower", "-u", tmp_path / "slow-upper", tmp_path / "slow"
    )
    yield tmp_path / "slow/file"
    programs.unionfs("umount", tmp_path / "slow")


def _is_held_up(pid: int) -> bool:
    """Whether a process waits for the answer to a request of FUSE."""
    return Path(f"/proc/{pid}/wchan").read_text() in ("request_wait_answer", "folio_wait_bit", "folio_wait_bit_common")


def _states_of_threads(pid: int) -> set[str]:
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


def test_worker_whose_thread_waits_in_the_kernel_is_replaced(programs: Programs, layers: Layers, slow: Path) -> None:
    """It tells the kernel what to forget, which a request, or the lock of a directory, holds up; no signal ends that."""
    (layers.base / "d").mkdir()
    programs.unionfs("mount", *layers.arguments)
    assert os.listdir(layers.merged / "d") == []
    (layers.base / "d/new").touch()
    worker = status(programs, layers.merged)["worker"]["pid"]
    slow_worker = status(programs, slow.parent)["worker"]["pid"]
    holder_of = [sys.executable, "-c", _HOLDS_A_DIRECTORY, layers.merged / "d", slow]
    with started(holder_of, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        os.kill(slow_worker, signal.SIGSTOP)
        holder.stdin.write("\n")
        holder.stdin.flush()
        try:
            wait_until(lambda: _is_held_up(holder.pid), "a page of the other mount")
            with started([BIN / "unionfs", "refresh", layers.merged], environment=programs.environment) as refresh:
                wait_until(lambda: "D" in _states_of_threads(worker), "the worker tells the kernel of names in use")
                os.kill(worker, signal.SIGKILL)
                assert (layers.merged / "base").read_text() == "base\n"
                refresh.wait(TIMEOUT)
        finally:
            os.kill(slow_worker, signal.SIGCONT)
        assert holder.wait(TIMEOUT) == 0
    after = status(programs, layers.merged)["worker"]
    assert (after["restarts"], after["last_end"]) == (1, "killed by SIGKILL")
    assert os.listdir(layers.merged / "d") == ["new"]
    programs.unionfs("umount", layers.merged)


# -- unionfs restart ----------------------------------------------------------------------------------------------------------


def test_restart_replaces_the_worker_under_open_files(programs: Programs, merged: Path) -> None:
    before = status(programs, merged)
    with (merged / "new").open("w+") as unnamed, (merged / "base").open("r+") as named:
        unnamed.write("kept")
        unnamed.flush()
        (merged / "new").unlink()
        said = programs.unionfs("restart", merged)
        unnamed.seek(0)
        assert (unnamed.read(), named.read()) == ("kept", "base\n")
    after = status(programs, merged)
    assert (after["pid"], after["worker"]["restarts"], after["worker"]["last_end"]) == (before["pid"], 1, "restarted")
    assert after["worker"]["pid"] != before["worker"]["pid"]
    assert said.startswith(f"{merged}: process {after['worker']['pid']} serves it now, after ")
    programs.unionfs("restart", merged)
    kill_worker(programs, merged)
    assert status(programs, merged)["worker"]["restarts"] == 3


def test_pyfuse3_cannot_be_restarted(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", "--transport", "pyfuse3", *layers.arguments)
    refusal = programs.refusal("restart", layers.merged)
    assert refusal == f"{layers.merged}: transport pyfuse3 cannot be taken over; mount it anew with transport=direct"
    programs.unionfs("umount", layers.merged)


def test_restart_of_what_is_not_mounted_is_refused(programs: Programs, tmp_path: Path) -> None:
    assert programs.refusal("restart", tmp_path).startswith(f"{tmp_path}: ")


def test_restart_runs_the_code_that_is_installed_now(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    package = tmp_path / "installed/unionfs"
    shutil.copytree(ROOT / "unionfs", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "cli", package / "cli", ignore=shutil.ignore_patterns("__pycache__"))
    figures = package / "mounter/process_figures.py"
    sound = figures.read_text()

    def installed(*arguments: str | Path, expected: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "unionfs.cli.main", *arguments],
            env={**programs.environment, "PYTHONPATH": str(package.parent)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        return done.stdout + done.stderr

    installed("mount", *layers.arguments)
    # What answers has loaded all of the code.
    installed("status", layers.merged)
    figures.write_text("this is no Python\n")
    refusal = installed("restart", layers.merged, expected=1)
    assert "the code that is installed now cannot go on with the mount: SyntaxError" in refusal
    assert refusal.endswith("; mend the installation; the mount goes on as it is\n")
    assert (layers.merged / "both").read_text() == "top\n"
    figures.write_text(sound)
    storage = package / "journal/storage.py"
    understood = storage.read_text()
    storage.write_text(understood + "\nFORMAT += 1\n")
    refusal = installed("restart", layers.merged, expected=1)
    assert "it keeps its journal in another form" in refusal
    storage.write_text(understood)
    figures.write_text(f"{sound}\n\ndef process_figures():\n    return {{'version': 'new'}}\n")
    installed("restart", layers.merged)
    assert json.loads(installed("status", "--json", layers.merged))["process"] == {"version": "new"}
    assert (layers.merged / "both").read_text() == "top\n"
    installed("umount", layers.merged)
