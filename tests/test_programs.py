"""The runner of programs: what it says when one does not do what it should."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.programs import Ended, ProgramFailedError, output, run, started, wait_until


def test_bytes_of_the_output_are_kept() -> None:
    assert run(["printf", r"a\r\n\377"]) == Ended(0, "a\r\n\udcff", "")
    assert os.fsencode(run(["cat"], stdin=b"\0\xff").stdout) == b"\0\xff"


def test_failure_names_command_status_and_both_outputs() -> None:
    with pytest.raises(ProgramFailedError) as failed:
        run(["sh", "-c", "echo found; echo lost >&2; exit 7"])
    for part in ("sh -c 'echo found", "exit status 7", "stdout:\nfound", "stderr:\nlost"):
        assert part in str(failed.value)


def test_other_status_is_no_failure_where_it_is_wanted() -> None:
    assert run(["false"], status=1).status == 1
    assert run(["false"], status=None).status == 1
    with pytest.raises(ProgramFailedError, match=r"true: exit status 0"):
        run(["true"], status=1)


def test_signal_is_named() -> None:
    with pytest.raises(ProgramFailedError, match="killed by SIGTERM"):
        run(["sh", "-c", "kill $$"])


def test_program_that_does_not_end_is_killed_and_what_it_wrote_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailedError, match=r"no end after 1 s\nstdout:\nbegun"):
        run(["sh", "-c", 'echo begun; echo $$ > "$1"; exec sleep 1000', "sh", tmp_path / "pid"], limit=1)
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path("/proc", pid).exists()


def test_long_output_is_told_from_its_end() -> None:
    with pytest.raises(ProgramFailedError, match="the last 20000 characters of 30004") as failed:
        run(["sh", "-c", "head -c 30000 /dev/zero | tr '\\0' x; echo end; exit 1"])
    assert "end" in str(failed.value)
    assert len(str(failed.value)) < 21_000


def test_complaint_fails_where_there_shall_be_none() -> None:
    assert output(["echo", "x"]) == "x\n"
    with pytest.raises(ProgramFailedError, match=r"stdout: nothing\nstderr:\nmoan"):
        output(["sh", "-c", "echo moan >&2"])


def test_environment_is_the_one_that_is_given() -> None:
    assert run(["/usr/bin/env"], environment={"ONE": "1"}).stdout == "ONE=1\n"


def test_program_beside_a_test_ends_with_it() -> None:
    with started(["cat"], stdin=subprocess.PIPE) as process:
        assert process.poll() is None
    assert process.returncode == -9


def test_waiting_in_vain_says_for_what() -> None:
    wait_until(lambda: True)
    with pytest.raises(AssertionError, match="no end of waiting for spring"):
        wait_until(lambda: False, "spring", limit=0)
