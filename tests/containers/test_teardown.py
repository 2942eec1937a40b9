"""Undoing what was made for a container, where a step fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unionfs.containers.teardown import is_mounted, unmount
from unionfs.linux.mount import umount
from unionfs.mounter.errors import MounterError


def test_root_filesystem_that_has_gone_is_not_detached_when_its_daemon_does_not_end(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "rootfs", rootfs], check=True)

    def unmount_and_wait(target: Path) -> None:
        umount(os.fsencode(target), 0)
        raise MounterError("process 1", "has not ended 30 s after the unmount")

    store: Any = SimpleNamespace(snapshots=SimpleNamespace(unmount=unmount_and_wait))
    container: Any = SimpleNamespace(rootfs=rootfs)
    unmount(store, container)
    assert not is_mounted(rootfs)
