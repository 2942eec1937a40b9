"""A user namespace that cannot be made: the remedy is named.  Each in a process of its own, which would be inside otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rootless.test_behaviour import ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("newuidmap") is None, reason="needs root to forbid things, and uidmap"
)

ENTER = """
from unionfs.mounter.errors import MounterError
from unionfs.rootless.id_mapping import enter_mapped_user_namespace
{before}
try:
    enter_mapped_user_namespace()
except MounterError as error:
    print(error)
"""


def said(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_limit_of_namespaces_is_named() -> None:
    # The limit is one of the user namespace that it is written in: nobody else's.
    shell = f"echo 0 > /proc/sys/user/max_user_namespaces; exec {sys.executable} -c '{ENTER.format(before='')}'"
    assert said([sys.executable, "-m", "tests.rootless.user_namespace", "sh", "-c", shell]) == (
        "user namespace: cannot be made: No space left on device; "
        "allow more, as root: sysctl user.max_user_namespaces=15000 (is 0)\n"
    )


def test_chroot_that_forbids_it_is_named(tmp_path: Path) -> None:
    before = f"import os; os.chroot({str(tmp_path)!r})"
    heard = said([sys.executable, "-c", ENTER.format(before=before)])
    assert heard.startswith("user namespace: cannot be made: Operation not permitted; leave the chroot or the container")


def test_mapping_that_the_programs_refuse_is_told_in_their_words() -> None:
    before = """
import os
from unionfs.linux.user_namespaces import IdRange
from unionfs.rootless import id_mapping
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
# Nobody has given these away: they stand in no file.
id_mapping.id_maps = lambda uid, gid: ([IdRange(0, uid, 1), IdRange(1, 7, 7)], [IdRange(0, gid, 1)])
"""
    heard = said([sys.executable, "-c", ENTER.format(before=before)])
    assert heard.startswith("user namespace: newuidmap: ")
    assert "not allowed" in heard
