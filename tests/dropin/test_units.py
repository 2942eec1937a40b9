"""The examples of systemd units are ones that systemd accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.dropin.conftest import needs
from tests.programs import run

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"

pytestmark = needs("systemd-analyze")


@pytest.mark.parametrize("unit", ["srv-merged.mount", "unionfs@.service"])
def test_systemd_accepts_the_unit(tmp_path: Path, unit: str) -> None:
    program = tmp_path / "unionfs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (UNITS / unit).read_text().replace("/usr/bin/unionfs", str(program))
    name = unit.replace("@.", "@example.")
    (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / name]
    complaints = [line for line in run(command).stderr.splitlines() if re.search(rf"{re.escape(name)}|{tmp_path}", line)]
    assert complaints == []


def test_unknown_setting_would_be_noticed(tmp_path: Path) -> None:
    unit = tmp_path / "srv-merged.mount"
    unit.write_text((UNITS / "srv-merged.mount").read_text() + "\n[Mount]\nOption=x\n")
    command = ["systemd-analyze", "verify", "--man=no", unit]
    assert "Option" in run(command, status=None).stderr
