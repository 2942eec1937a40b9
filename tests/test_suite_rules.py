"""The rules of tests/conftest.py, each shown to fail a test that breaks it: by a run of pytest in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounts import mounts_under

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


def outcomes(tmp_path: Path, test: str, **environment: str) -> tuple[str, str]:
    """Run one test under the suite's conftest; the closing line of pytest, and all it wrote."""
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_case.py").write_text(f"import logging, os, pytest, time\nfrom pathlib import Path\n{test}")
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--basetemp", tmp_path / "run", "--override-ini", f"pythonpath={ROOT}", tmp_path],
        cwd=tmp_path,
        env=inherited | environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
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
