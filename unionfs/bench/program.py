"""Running the programs that a workload consists of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from unionfs.bench.errors import BenchError

_SHOWN = 300
"""Characters of a failed program's complaint that are worth showing."""


def run_program(
    arguments: Sequence[str | Path], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> bytes:
    """Run a program to its end; what it wrote to stdout.  ``environment`` is added to ours.

    Raises:
        BenchError: It could not be started, or its exit status is not 0; with the last line that it wrote to stderr.
    """
    name = os.path.basename(arguments[0])
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            input=stdin,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise BenchError(f"{name}: {error.strerror}") from error
    if done.returncode:
        raise BenchError(f"{name}: exit status {done.returncode}: {last_line(done.stderr)}")
    return done.stdout


def last_line(output: bytes) -> str:
    """The last line of a program's complaint, shortened."""
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:_SHOWN] if lines else "it said nothing"
