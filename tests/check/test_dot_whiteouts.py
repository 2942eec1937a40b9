"""Whiteouts in the format of AUFS."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.behaviour.layers import Dir
from tests.check.damaged import damaged, mark
from unionfs.check import Severity


def test_dot_whiteouts_are_notes_and_become_those_of_the_kernel(tmp_path: Path) -> None:
    upper = {
        ".wh.file": b"",
        "dir/.wh..wh..opq": b"",
        "dir/x": b"x",
        ".wh.over": b"",
        "over/inside": b"",
        ".wh.again": b"",
        "again": b"new",
    }
    lower = {"file": b"", "dir/f": b"", "over/hidden": b"", "again": b"old"}
    stack = damaged(tmp_path, upper, lower)
    assert {outcome.finding.severity for outcome in stack.check()} == {Severity.NOTE}
    names = ["upper/.wh.again", "upper/.wh.file", "upper/.wh.over", "upper/dir/.wh..wh..opq"]
    assert sorted(stack.repaired()) == [("dot-whiteout", name) for name in names]
    status = (stack.upper / "file").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert mark(stack.upper / "dir") == mark(stack.upper / "over") == {"opaque": b"y"}
    assert (stack.upper / "again").read_bytes() == b"new"
    assert list(stack.upper.rglob(".wh.*")) == []
    assert stack.found() == []


def test_what_aufs_keeps_for_itself_stays(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {".wh..wh.plnk": Dir(), ".wh..wh.aufs": b"", ".wh.dir": Dir()})
    names = [".wh..wh.aufs", ".wh..wh.plnk", ".wh.dir"]
    assert stack.repaired() == [("dot-whiteout", f"upper/{name}") for name in names]
    assert sorted(path.name for path in stack.upper.iterdir()) == names
