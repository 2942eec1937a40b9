"""``unionfs check``; what it finds is tested in tests/check."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.cli.conftest import Layers, Programs
from tests.mounts import KERNEL

IMPURE = "trusted.overlay.impure"


def test_upper_of_our_own_is_clean(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    (layers.merged / "base").write_text("changed\n")
    (layers.merged / "both").unlink()
    programs.unionfs("umount", layers.merged)
    arguments = ("-l", layers.top, "-l", layers.base, layers.upper)
    assert programs.unionfs("check", *arguments) == f"{layers.upper}: clean\n"
    (answer,) = json.loads(programs.unionfs("check", "--json", *arguments))
    assert answer == {"upper": str(layers.upper), "clean": True, "findings": []}


def test_problems_are_status_1_until_they_are_repaired(programs: Programs, layers: Layers) -> None:
    os.setxattr(layers.upper, IMPURE, b"\0")
    first = f"problem: {layers.upper}: {IMPURE} is b'\\\\x00' and not y [bad-attribute]\n"
    found = programs.run("unionfs", "check", layers.upper)
    assert (found.status, found.stderr) == (1, "")
    assert found.stdout == f"{first}  --repair would: set it to y\n{layers.upper}: 1 problem\n"
    assert os.getxattr(layers.upper, IMPURE) == b"\0"
    repaired = programs.unionfs("check", "--repair", layers.upper)
    assert repaired == f"{first}  repaired: set it to y\n{layers.upper}: clean, 1 repaired\n"
    assert os.getxattr(layers.upper, IMPURE) == b"y"


def test_problem_without_a_repair_comes_with_a_remedy(programs: Programs, layers: Layers) -> None:
    os.setxattr(layers.top / "both", "trusted.overlay.redirect", b"a/b")
    ended = programs.run("unionfs", "check", "--repair", "--json", layers.top, layers.base)
    assert ended.status == 1
    first, second = json.loads(ended.stdout)
    assert second == {"upper": str(layers.base), "clean": True, "findings": []}
    assert not first["clean"]
    (finding,) = first["findings"]
    assert finding["remedy"].startswith("correct the attribute trusted.overlay.redirect, ")
    assert (finding["kind"], finding["repair"], finding["repaired"]) == ("bad-redirect", None, False)


def test_default_work_directory_is_checked_too(programs: Programs, layers: Layers) -> None:
    stray = layers.upper.with_name(".upper.work") / "work" / "#1"
    stray.mkdir(parents=True)
    assert programs.run("unionfs", "check", layers.upper).stdout.startswith(f"problem: {stray}: ")
    programs.unionfs("check", "--repair", layers.upper)
    assert not stray.exists()


def test_mounted_union_is_refused(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    line = programs.refusal("check", layers.upper)
    programs.unionfs("umount", layers.merged)
    assert line.startswith(f"{layers.upper}: in use by another union; unmount that one")


def test_mounted_kernel_overlay_is_refused(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    KERNEL.mount([layers.base], layers.upper, work, layers.merged)
    lines = [programs.refusal("check", layers.upper), programs.refusal("check", "--work", work, layers.top)]
    KERNEL.umount(layers.merged)
    assert lines[0] == (
        f"{layers.upper}: upper is in use by the kernel's overlay on {layers.merged}; unmount that, or use another directory"
    )
    assert lines[1].startswith(f"{work}: work is in use by the kernel's overlay")


def test_wrong_usage(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    assert "is for one UPPER" in programs.refusal("check", "-w", tmp_path, layers.upper, layers.top, status=2)
    assert programs.refusal("check", tmp_path / "no").startswith(f"{tmp_path}/no: upper: no such file or directory; ")
    assert programs.refusal("check", "-l", tmp_path / "no", layers.upper).startswith(f"{tmp_path}/no: lower: no such file")
