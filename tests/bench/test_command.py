"""``unionfs bench``, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.mounts import UNIONFS, mounts_under
from tests.programs import command_lines
from unionfs.cli.main import unionfs


def start(temporary: Path, arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
    """Start the command; its tmpfs, its mounts and all else are to be below ``temporary``."""
    temporary.mkdir()
    return subprocess.Popen(
        [UNIONFS, "bench", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_nothing_left(temporary: Path) -> None:
    assert list(mounts_under(temporary)) == []
    assert list(temporary.iterdir()) == []
    assert [command for command in command_lines() if os.fsencode(temporary) in command] == []


@pytest.mark.parametrize("chosen", [False, True], ids=["tmpfs", "directory"])
def test_run_prints_tables_and_writes_json_and_svg(chosen: bool, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    files = ["--json", tmp_path / "results.json", "--svg", tmp_path / "results.svg"]
    where = ["--directory", temporary] if chosen else []
    what = ["--quick", "--markdown", "--systems", "plain,kernel,direct", "--only", "create,walk-cold"]
    with start(temporary, [*what, *files, *where]) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stderr.splitlines() == ["round 1 of 1: walk-cold", "round 1 of 1: create"]
    assert "| workload | plain | kernel | direct |" in stdout
    assert "failed" not in stdout
    document = json.loads((tmp_path / "results.json").read_text())
    assert [(m["workload"], m["system"]) for m in document["measurements"]] == [
        (workload, system) for workload in ("walk-cold", "create") for system in ("plain", "kernel", "direct")
    ]
    assert document["environment"]["kernel"] == os.uname().release
    assert document["options"]["scale"] == 0.05
    assert document["options"]["filesystem"] == (f"directory {temporary}" if chosen else "tmpfs")
    ElementTree.fromstring((tmp_path / "results.svg").read_text())  # noqa: S314  # we have just written it
    assert_nothing_left(temporary)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_it_and_nothing_is_left(number: signal.Signals, status: int, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    with start(temporary, ["--quick", "--rounds", "1000", "--systems", "direct", "--only", "walk-warm"]) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "round 1 of 1000: walk-warm\n"
        assert process.stderr.readline() == "round 2 of 1000: walk-warm\n"
        process.send_signal(number)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (status, "")
    assert "Traceback" not in stderr
    assert_nothing_left(temporary)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "create,no-such"], "no workload is called 'no-such'"),
        (["--systems", "kernle"], "no system is called 'kernle'"),
        (["--rounds", "0"], "0 is not in the range"),
        (["--json", "/nonexistent/results.json"], "cannot be written"),
        (["--directory", "/nonexistent"], "does not exist"),
    ],
)
def test_wrong_argument_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        unionfs(["bench", *arguments], prog_name="unionfs")
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1


def test_user_is_told_to_be_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        unionfs(["bench"], prog_name="unionfs")
    assert ended.value.code == 1
    assert capsys.readouterr().err.endswith("need root; run: sudo unionfs bench\n")


def test_too_little_room_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unionfs.bench.workspace.NEEDED", 1 << 60)
    with pytest.raises(SystemExit) as ended:
        unionfs(["bench", "--only", "create", "--directory", str(tmp_path)], prog_name="unionfs")
    assert ended.value.code == 1
    assert "GiB needed; make room, or choose another directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_list_names_workloads_and_systems(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        unionfs(["bench", "--list"], prog_name="unionfs")
    assert ended.value.code == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert {"walk-cold", "copy-up-big", "daemon", "copy-up-latency", "kernel", "direct-cached"} <= words


def test_patterns_match_as_for_file_names() -> None:
    from unionfs.bench.selection import select_workloads

    workloads, figures = select_workloads(["walk-*", "unlink"])
    assert ([workload.name for workload in workloads], figures) == (["walk-cold", "walk-warm", "unlink"], [])
    assert select_workloads(["daemon"]) == ([], ["daemon"])
    workloads, figures = select_workloads(["copy-up-*"])
    assert ([workload.name for workload in workloads], figures) == (["copy-up-small", "copy-up-big"], ["copy-up-latency"])
