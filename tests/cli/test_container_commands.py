"""The container commands where there is nothing to run yet: refusals, and what empty lists look like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Layers, Programs

HEADINGS = "CONTAINER  IMAGE  COMMAND  CREATED  STATUS  NAME\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_no_containers_are_an_empty_list(programs: Programs, store: Path) -> None:
    assert programs.unionfs("ps", "--root", store) == HEADINGS
    assert json.loads(programs.unionfs("ps", "-a", "--json", "--root", store)) == []
    assert programs.unionfs("ps", "-q", "--root", store) == ""


@pytest.mark.parametrize("command", [["stop"], ["kill"], ["rm"], ["rm", "-f"], ["logs"], ["commit"], ["diff"]])
def test_a_container_that_is_not_there_is_named(programs: Programs, store: Path, command: list[str]) -> None:
    line = programs.refusal(command[0], "--root", store, *command[1:], "nothing")
    assert line == "nothing: no such container; unionfs ps -a lists them"


def test_wrong_usage_of_run_is_status_125(programs: Programs) -> None:
    line = programs.refusal("run", "--network", "bridge", "box", status=125)
    assert line.startswith("Invalid value for '--network'")
    assert line.endswith("; unionfs run --help tells how")


def test_options_after_the_image_belong_to_the_command(programs: Programs, store: Path) -> None:
    assert programs.refusal("run", "--root", store, "nosuch", "ls", "--color", status=125).startswith("nosuch: no such image")


def test_diff_of_a_mounted_union_and_of_its_upper(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    try:
        (layers.merged / "new").write_text("")
        (layers.merged / "both").write_text("changed")
        (layers.merged / "base").unlink()
        expected = "D /base\nM /both\nA /new\n"
        assert programs.unionfs("diff", layers.merged) == expected
        assert programs.unionfs("diff", layers.upper) == expected
    finally:
        programs.unionfs("umount", layers.merged)
    listed = json.loads(programs.unionfs("diff", "--json", layers.upper))
    assert {"kind": "D", "path": "/base"} in listed


def test_diff_of_what_has_no_changes_of_its_own_is_refused(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    programs.unionfs("mount", "-l", layers.base, layers.merged)
    try:
        assert programs.refusal("diff", layers.merged) == f"{layers.merged}: the union has no writable layer; name one that has"
    finally:
        programs.unionfs("umount", layers.merged)
    line = programs.refusal("diff", tmp_path / "missing")
    assert line.startswith(f"{tmp_path}/missing: neither a mounted union nor an upper directory")
