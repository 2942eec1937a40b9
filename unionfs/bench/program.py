"""Running the programs that a workload consists of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from unionfs.bench.errors import BenchError

_SHOWN_LINES = 5
_SHOWN = 300
"""Characters of a failed program's complaint that are worth showing."""

FIXED_TIME = 1_700_000_000
"""Seconds since the epoch: the time of all that carries one in its content, so that every run makes the same bytes."""


def bare_environment(home: Path) -> dict[str, str]:
    """Nothing of the user's but ``PATH``.  Temporary files go to ``home``, too."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.fspath(home),
        "TMPDIR": os.fspath(home),
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(FIXED_TIME),
    }


def run_program(
    arguments: Sequence[str | Path],
    *,
    home: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> bytes:
    """Run a program to its end; what it wrote to stdout.

    ``environment`` is added to ours, or with ``home`` to a `bare_environment`: nobody's settings change then what it does.

    Raises:
        BenchError: It could not be started, or its exit status is not 0; with the end of what it wrote to stderr.
    """
    name = os.path.basename(arguments[0])
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env={**(bare_environment(home) if home else os.environ | {"LC_ALL": "C.UTF-8"}), **(environment or {})},
            input=stdin,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise BenchError(f"{name}: {error.strerror}") from error
    if done.returncode:
        raise BenchError(f"{name}: exit status {done.returncode}: {_last_lines(done.stderr)}")
    return done.stdout


def _last_lines(output: bytes) -> str:
    # In the last line alone make says only which of its files was not made.
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return "; ".join(lines[-_SHOWN_LINES:])[-_SHOWN:] or "it said nothing"


def last_line(output: bytes) -> str:
    """The last line of a program's complaint, shortened."""
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:_SHOWN] if lines else "it said nothing"
