"""Cases of `tests.behaviour` that need no right over the machine, run where there is none.

In the user namespace the kernel's OverlayFS is the oracle as ever, with ``userxattr``; a user cannot mount it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rootless.user import HOME

ROOT = Path(__file__).parents[2]
BEHAVIOUR = Path("tests/behaviour")
MODULES = [BEHAVIOUR / f"test_{name}.py" for name in ("remove", "rename", "rename_directories", "merging", "random_operations")]

# What only root can prepare or do: other owners.
NOT_FOR_USERS = (
    "test_rename.py::test_rename_of_lower_file_copies_up_and_leaves_whiteout",
    "test_merging.py::test_merged_directory_has_the_attributes_of_the_topmost",
)


def run_pytest(prefix: list[str | Path], basetemp: Path, backends: str, deselected: tuple[str, ...] = ()) -> None:
    """Run the modules in a pytest of their own; it must end well and say that something passed."""
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={basetemp}", "-k", backends]
    for name in deselected:
        for backend in ("direct", "pyfuse3"):
            command += ["--deselect", f"{BEHAVIOUR}/{name}[{backend}]"]
    done = subprocess.run(
        [*command, *MODULES],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "UNIONFS_RUNTIME_DIR": str(basetemp.parent / "run"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    report = "\n".join([*done.stdout.splitlines()[-40:], done.stderr])
    assert done.returncode == 0, report
    assert " passed" in report


@pytest.mark.timeout(300)
def test_root_of_a_user_namespace_sees_what_the_kernel_shows_it(tmp_path: Path) -> None:
    # The kernel's gives the names of a copied-up hard link numbers of their own there, since it may open no file by its handle.
    backends = "not direct-cached and not pyfuse3 and not (kernel and plain_directory)"
    run_pytest([sys.executable, "-m", "tests.rootless.user_namespace"], tmp_path / "inside", backends)


@pytest.mark.timeout(300)
def test_user_with_fusermount3_sees_the_same(tmp_path: Path) -> None:
    prefix = [sys.executable, "-m", "tests.rootless.user", tmp_path]
    run_pytest(prefix, HOME / "inside", "not kernel and not direct-cached and not (pyfuse3 and test_rename)", NOT_FOR_USERS)
