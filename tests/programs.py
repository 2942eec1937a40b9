"""Programs run by tests: with a time limit, without a terminal, and with all that is known of them in the message of a failure.

What they write is text of any bytes: what is no UTF-8 comes as surrogates, so that `os.fsencode` gives the bytes again.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

UNIONFS = Path(sys.executable).with_name("unionfs")
"""The installed command beside the interpreter that runs the tests."""

TIMEOUT = 60.0
"""Seconds; what takes longer hangs."""

_PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
_AT_MOST = 20_000
"""Characters of an output that a message shows; of a longer one the end, where programs say why they stop."""

Command = Sequence[str | Path]


class Ended(NamedTuple):
    """How a program ended."""

    status: int
    """Its exit status; -N: killed by signal N."""
    stdout: str
    stderr: str


class ProgramFailedError(AssertionError):
    """A program ended otherwise than a test wants, or not in time; the text has all it wrote."""


def run(
    command: Command,
    *,
    status: int | None = 0,
    stdin: str | bytes | None = None,
    limit: float = TIMEOUT,
    environment: Mapping[str, str] | None = None,
    **extra: Any,
) -> Ended:
    """Run a program to its end, which includes that of its stdout and stderr: a daemon that kept one open would be noticed.

    Args:
        status: the exit status that it shall have; None: any.
        stdin: what it reads; None: nothing.
        limit: seconds that it may take.
        environment: its whole environment; None: ours.
        extra: more for `subprocess.run` (``cwd``, ``pass_fds``, ``preexec_fn`` …); an output that goes elsewhere is empty.

    Raises:
        ProgramFailedError: another exit status, or no end in time.
    """
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": os.fsencode(stdin)}
    try:
        # The bytes themselves: with ``text`` carriage returns would become newlines.
        done = subprocess.run(command, env=environment, timeout=limit, check=False, **{**_PIPES, **source, **extra})
    except subprocess.TimeoutExpired as slow:
        raise no_end(command, limit, slow.stdout, slow.stderr) from None
    ended = Ended(done.returncode, text(done.stdout), text(done.stderr))
    if status is not None and ended.status != status:
        raise ProgramFailedError(describe(command, ended))
    return ended


def output(command: Command, **options: Any) -> str:
    """What a program prints, which shall end well and say nothing on stderr.  ``options`` as for `run`.

    Raises:
        ProgramFailedError: as `run`; or it did say something.
    """
    ended = run(command, **options)
    if ended.stderr:
        raise ProgramFailedError(describe(command, ended))
    return ended.stdout


def describe(command: Command, ended: Ended) -> str:
    """All that is known of the end of a program, for the message of an assertion."""
    return f"{_words(command)}: {_how(ended.status)}{_tail('stdout', ended.stdout)}{_tail('stderr', ended.stderr)}"


@contextlib.contextmanager
def started(command: Command, *, environment: Mapping[str, str] | None = None, **extra: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a program beside the test; killed at the end if it still runs.  ``extra``: for `subprocess.Popen`; it reads nothing
    unless that has ``stdin``."""
    with subprocess.Popen(command, env=environment, **{"stdin": subprocess.DEVNULL, **extra}) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], what: str = "a condition", limit: float = TIMEOUT) -> None:
    """Return when ``condition`` holds; fail, naming ``what``, if it does not within ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"no end of waiting for {what}"
        time.sleep(0.01)  # between two looks only: others need the CPU


def command_lines() -> Iterator[bytes]:
    """Those of all processes, as far as they do not end at the same moment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield (process / "cmdline").read_bytes()


def no_end(command: Command, limit: float, stdout: bytes | None, stderr: bytes | None) -> ProgramFailedError:
    """What to raise for a program that has not ended in time, and had written this by then."""
    came = f"{_tail('stdout', text(stdout))}{_tail('stderr', text(stderr))}"
    return ProgramFailedError(f"{_words(command)}: no end after {limit:.0f} s{came}")


def text(written: bytes | None) -> str:
    """What a program wrote, as text."""
    return "" if written is None else written.decode(errors="surrogateescape")


def _words(command: Command) -> str:
    return shlex.join(map(os.fspath, command))


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _tail(name: str, text: str) -> str:
    if not text:
        return f"\n{name}: nothing"
    cut = "" if len(text) <= _AT_MOST else f" (the last {_AT_MOST} characters of {len(text)})"
    return f"\n{name}{cut}:\n{text[-_AT_MOST:].rstrip()}"
