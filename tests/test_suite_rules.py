"""The rules of tests/conftest.py, each shown to fail a test that breaks it: by a run of pytest in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.mounts import mounts_under
from tests.programs import TIMEOUT, run, started, wait_until
from tests.workers import shorten_basetemp

ROOT = Path(__file__).parents[1]

# A server that reads requests and answers none: whoever asks it anything waits for ever.
HUNG_MOUNT = """
    import os
    from unionfs.linux.mount import mount
    device = os.open("/dev/fuse", os.O_RDWR)
    mount(b"hung", bytes(tmp_path), b"fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0".encode())
    if os.fork() == 0:
        try:
            while True:
                os.read(device, 1 << 17)
        finally:
            os._exit(0)
    os.stat(tmp_path / "name")
"""


# For the tests of interrupts: it blocks as a test does that waits for a program.
BLOCKED = """
import signal, subprocess

@pytest.fixture
def mount(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "mine", tmp_path], check=True)
    yield
    subprocess.run(["umount", tmp_path], check=True)
    Path(__file__).with_suffix(".torn-down").touch()

def test_blocked(mount):
    try:
        Path(__file__).with_suffix(".runs").touch()
        signal.pause()
    finally:
        Path(__file__).with_suffix(".left").touch()
"""


def prepare(tmp_path: Path, *arguments: str, **environment: str) -> tuple[list[str | Path], dict[str, Any]]:
    """A command that runs pytest under the suite's conftest, and more for `tests.programs`."""
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    options = ["--basetemp", tmp_path / "run", "--override-ini", f"pythonpath={ROOT}"]
    return [sys.executable, "-m", "pytest", *options, *arguments, tmp_path], {
        "cwd": tmp_path,
        "environment": inherited | environment | {"PYTHONPATH": str(ROOT)},
    }


def outcomes(tmp_path: Path, test: str, **environment: str) -> tuple[str, str]:
    """Run one test under the suite's conftest; the closing line of pytest, and all it wrote."""
    (tmp_path / "test_case.py").write_text(f"import logging, os, pytest, time\nfrom pathlib import Path\n{test}")
    command, extra = prepare(tmp_path, **environment)
    done = run(command, status=None, limit=90, stderr=subprocess.STDOUT, **extra)
    assert list(mounts_under(tmp_path)) == []
    return done.stdout.splitlines()[-1].strip("= ").rpartition(" in ")[0], done.stdout


def test_innocent_test_passes(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "def test_it(tmp_path): pass", CI="true")[0] == "1 passed"


@pytest.mark.parametrize(
    "test",
    [
        "def test_it(): pytest.skip('no root')",
        "@pytest.mark.skip(reason='no tool')\ndef test_it(): pass",
        "pytest.skip('no FUSE', allow_module_level=True)",
    ],
    ids=["call", "mark", "module"],
)
def test_skip_is_a_failure_in_ci_only(tmp_path: Path, test: str) -> None:
    in_ci, output = outcomes(tmp_path, test, CI="true")
    assert in_ci in ("1 failed", "1 error")
    assert "a failure in CI" in output
    assert outcomes(tmp_path, test)[0] == "1 skipped"


def test_undeclared_log_error_fails_the_test(tmp_path: Path) -> None:
    test = "def test_it(): logging.getLogger('x').error('broken pipe')"
    assert outcomes(tmp_path, test)[0] == "1 passed, 1 error"
    assert outcomes(tmp_path, f"@pytest.mark.expects_log_error('broken')\n{test}")[0] == "1 passed"


def test_error_in_a_daemon_log_fails_the_test(tmp_path: Path) -> None:
    line = "2026-01-01 10:00:00,000 ERROR unionfs: request failed\\\\nTraceback (most recent call last):\\\\n  File\\\\n"
    test = f"def test_it(): Path(os.environ['UNIONFS_LOG_DIR'], 'a.log').write_text('{line}')"
    summary, output = outcomes(tmp_path, test.replace("\\\\", "\\"))
    assert summary == "1 passed, 1 error"
    assert "request failed" in output
    declared = "@pytest.mark.expects_log_error('request failed')\n"
    assert outcomes(tmp_path, declared + test.replace("\\\\", "\\"))[0] == "1 passed"


def test_signal_left_ignored_fails_the_test_and_is_put_back(tmp_path: Path) -> None:
    test = """
import signal
def test_it(): signal.signal(signal.SIGINT, signal.SIG_IGN)
def test_next(): assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    summary, output = outcomes(tmp_path, test)
    assert summary == "2 passed, 1 error"
    assert "left other handlers of SIGINT" in output


def test_mount_left_behind_fails_the_test_and_is_taken_away(tmp_path: Path) -> None:
    test = "import subprocess\ndef test_it(tmp_path): subprocess.run(['mount', '-t', 'tmpfs', 'left', tmp_path], check=True)"
    summary, output = outcomes(tmp_path, test)
    assert summary == "1 passed, 1 error"
    assert "mounts left behind" in output


def test_test_that_hangs_fails(tmp_path: Path) -> None:
    summary, output = outcomes(tmp_path, "@pytest.mark.timeout(1)\ndef test_it():\n    while True: time.sleep(1)")
    assert summary == "1 failed"
    assert "Timeout" in output


def test_test_that_hangs_in_a_dead_mount_fails(tmp_path: Path) -> None:
    summary, output = outcomes(tmp_path, f"@pytest.mark.timeout(1)\ndef test_it(tmp_path):{HUNG_MOUNT}")
    assert summary.startswith("1 failed")
    assert "Timeout" in output


@pytest.mark.parametrize("workers", ["0", "2"])
def test_interrupt_of_the_terminal_tears_everything_down(tmp_path: Path, workers: str) -> None:
    files = [tmp_path / "test_one.py", tmp_path / "test_two.py"][: int(workers) or 1]
    for file in files:
        file.write_text(f"import pytest\nfrom pathlib import Path\n{BLOCKED}")
    command, extra = prepare(tmp_path, "-n", workers)
    output = tmp_path / "output"
    with (
        output.open("wb") as written,
        started(command, **extra, stdout=written, stderr=written, start_new_session=True) as process,
    ):
        wait_until(lambda: all(file.with_suffix(".runs").exists() for file in files), "the tests to run")
        os.killpg(process.pid, signal.SIGINT)
        process.wait(TIMEOUT)
    ends = [file.with_suffix(suffix).name for file in files for suffix in (".left", ".torn-down")]
    assert [name for name in ends if not (tmp_path / name).exists()] == [], output.read_text()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output.read_text()
    assert list(mounts_under(tmp_path)) == []


def test_what_tests_start_hears_ctrl_c_also_in_the_background_of_a_shell(tmp_path: Path) -> None:
    heard = "assert subprocess.run(['sh', '-c', 'kill -INT $$; sleep 60']).returncode == -2"
    (tmp_path / "test_case.py").write_text(f"import subprocess\n\ndef test_it():\n    {heard}\n")
    command, extra = prepare(tmp_path)
    assert "1 passed" in run(["env", "--ignore-signal=INT", *command], **extra).stdout


def test_directory_of_a_worker_has_a_short_name() -> None:
    for workers in ({}, {"workerinput": {}}):
        config: Any = SimpleNamespace(option=SimpleNamespace(basetemp="/run/1/popen-gw12"), **workers)
        shorten_basetemp(config)
        assert config.option.basetemp == ("/run/1/12" if workers else "/run/1/popen-gw12")
