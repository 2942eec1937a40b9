"""Programs of workloads: what they find around them, and what is told of one that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.bench.errors import BenchError
from unionfs.bench.program import run_program


def test_program_runs_in_its_directory_and_its_output_is_returned(tmp_path: Path) -> None:
    assert run_program(["pwd", "-P"], cwd=tmp_path) == os.fsencode(tmp_path) + b"\n"


def test_program_with_a_home_finds_nothing_of_the_users_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    lines = run_program(["env"], home=tmp_path, environment={"MORE": "1"}).decode().splitlines()
    assert dict(line.split("=", 1) for line in lines) == {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "1700000000",
        "MORE": "1",
    }


def test_program_without_a_home_has_the_users_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org")
    assert run_program(["sh", "-c", 'echo "$http_proxy"']) == b"http://proxy.example.org\n"


def test_failed_program_is_told_in_one_line_with_the_end_of_what_it_said() -> None:
    with pytest.raises(BenchError, match=r"^sh: exit status 3: 4; 5; 6; x.c is broken; and so nothing is made$"):
        run_program(["sh", "-c", "echo fine; { seq 6; echo; echo x.c is broken; echo and so nothing is made; } >&2; exit 3"])


def test_failed_program_may_have_said_nothing() -> None:
    with pytest.raises(BenchError, match=r"^false: exit status 1: it said nothing$"):
        run_program(["false"])


def test_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BenchError, match=r"^unionfs-no-such-program: No such file or directory$"):
        run_program(["unionfs-no-such-program"])
