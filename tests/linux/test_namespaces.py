from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unionfs.linux.mountinfo import read_mountinfo
from unionfs.linux.namespaces import mount_namespace, overflow_ids

_CHILD = """
import sys
from unionfs.linux.mount import mount
from unionfs.linux.namespaces import enter_private_mount_namespace, mount_namespace
before = mount_namespace()
enter_private_mount_namespace()
assert mount_namespace() != before
mount(b"scratch", sys.argv[1].encode(), b"tmpfs", 0, b"size=1m")
print("mounted", flush=True)
sys.stdin.read()
"""


def test_mount_in_a_private_namespace_is_not_seen_outside(tmp_path: Path) -> None:
    # The parent of the mount is shared, as systemd makes it: else nothing would propagate anyway.
    subprocess.run(["mount", "--bind", "--make-shared", tmp_path, tmp_path], check=True, timeout=60)
    target = tmp_path / "target"
    target.mkdir()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "mounted\n"
            assert target in {mount.mount_point for mount in read_mountinfo(Path(f"/proc/{child.pid}/mountinfo"))}
            assert target not in {mount.mount_point for mount in read_mountinfo()}
            child.communicate(timeout=60)
        assert child.returncode == 0
    finally:
        subprocess.run(["umount", tmp_path], check=True, timeout=60)


def test_process_that_does_not_exist_is_named() -> None:
    child = subprocess.Popen(["true"])
    child.wait(60)
    with pytest.raises(FileNotFoundError, match=f"/proc/{child.pid}/ns/mnt"):
        mount_namespace(child.pid)


def test_overflow_ids_are_those_of_the_kernel() -> None:
    assert overflow_ids() == (65534, 65534)
