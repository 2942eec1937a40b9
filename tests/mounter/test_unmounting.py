"""What an unmount says where the mount lives on."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.conftest import Layers, Programs, layers, programs
from tests.programs import run, started
from unionfs.bench.daemon import process_ends
from unionfs.mounter import unmounting
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.unmounting import unmount_union

__all__ = ["layers", "programs"]


def test_who_has_a_copy_of_the_mount_is_named(programs: Programs, layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmounting, "END_TIMEOUT", 0.2)
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(programs.registry))
    programs.unionfs("mount", *layers.arguments)
    daemon = programs.daemon_of(layers.merged)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 600"]
    with started(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(DaemonError) as raised:
            unmount_union(layers.merged)
        remedy = str(raised.value).partition(f"process {other.pid} has a mount namespace with a copy of the mount on ")[2]
        assert remedy.startswith(f"{layers.merged}: ")
        run(["sh", "-c", remedy.partition(", or ")[2]])
        assert process_ends(daemon, 30)
        other.kill()
