"""The systemd units of the volume plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.dropin.conftest import needs
from tests.programs import run
from unionfs.adapters.volume_plugin.sockets import DEFAULT_SOCKET

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
SERVICE, SOCKET = "unionfs-volume-plugin.service", "unionfs-volume-plugin.socket"

_NAMESPACE = re.compile(
    r"(Private|Protect|Root|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Dynamic|MountFlags|Exec(?=Paths))\w*="
)
"""Settings that give a unit a mount namespace of its own (systemd.exec(5))."""


def settings(unit: str) -> list[str]:
    return [line for line in (UNITS / unit).read_text().splitlines() if line and line[0] not in "#["]


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", [SERVICE, SOCKET])
def test_systemd_accepts_the_unit(tmp_path: Path, unit: str) -> None:
    program = tmp_path / "unionfs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in (SERVICE, SOCKET):
        (tmp_path / name).write_text((UNITS / name).read_text().replace("/usr/bin/unionfs", str(program)))
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / unit]
    complaints = [line for line in run(command).stderr.splitlines() if re.search(rf"unionfs-volume-plugin|{tmp_path}", line)]
    assert complaints == []


def test_socket_is_where_docker_looks_and_for_root_alone() -> None:
    assert {f"ListenStream={DEFAULT_SOCKET}", "SocketMode=0600"} <= set(settings(SOCKET))


def test_service_leaves_its_mounts_to_others() -> None:
    """What the plugin mounts is seen by dockerd, and the daemons of unions outlive it."""
    assert "KillMode=process" in settings(SERVICE)
    assert [setting for setting in settings(SERVICE) if _NAMESPACE.match(setting)] == []
    assert _NAMESPACE.match("PrivateMounts=yes")
    assert _NAMESPACE.match("ProtectSystem=strict")
