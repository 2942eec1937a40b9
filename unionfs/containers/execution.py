"""``unionfs exec``: one more process in a container that runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from unionfs.containers.bundle import CONFIG
from unionfs.containers.container import Container
from unionfs.containers.lifecycle import opened
from unionfs.containers.options import dump
from unionfs.containers.process import merged_environment, process_config
from unionfs.containers.recovery import recover
from unionfs.containers.rootless import fit_user
from unionfs.containers.runtime import find_runtime, messages_in
from unionfs.containers.users import find_user
from unionfs.store.errors import StoreError, wrong_usage

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def execute(
    root: Path,
    name: str,
    command: Sequence[str],
    *,
    environment: Sequence[str] = (),
    working_dir: str | None = None,
    user: str | None = None,
    interactive: bool = False,
    terminal: bool = False,
) -> int:
    """Run ``command`` in the container, with the standard streams of this process; its exit status; 126 if it
    cannot be executed, 127 if it is not there.

    Raises:
        NotFoundError: there is no such container.
        StoreError: it does not run.
    """
    if terminal and not os.isatty(0):
        raise wrong_usage("standard input", "is no terminal", "leave --tty out, or run it in one")
    container = _running(root, name)
    first = json.loads((container.directory / CONFIG).read_text())["process"]
    process = _process(container, first, command, environment, working_dir, user, terminal=terminal)
    runtime = find_runtime(container.options.runtime)
    with tempfile.TemporaryDirectory(prefix="exec-", dir=container.directory) as scratch:
        file, pid_file, log = (Path(scratch, part) for part in ("process.json", "pid", "log"))
        file.write_text(dump(process))
        with _stdin(interactive=interactive or terminal):
            child = runtime.execute(container.directory, container.id, file, pid_file=pid_file, log=log)
        status = _wait(child)
        if status and messages_in(log) and not pid_file.exists():
            # The runtime has said why, on standard error, which is also ours.
            return runtime.failure_in(log, "exec", status).exit_code
    return status


def _running(root: Path, name: str) -> Container:
    with opened(root) as (store, containers):
        recover(store, containers)
        container = containers.find(name)
    if container.status().state != "running":
        raise StoreError(container.name, "the container does not run", "unionfs ps lists those that do")
    return container


def _process(
    container: Container,
    first: dict[str, object],
    command: Sequence[str],
    environment: Sequence[str],
    working_dir: str | None,
    user: str | None,
    *,
    terminal: bool,
) -> dict[str, object]:
    """As the first process of the container, but for what is given."""
    inherited = first["env"]
    assert isinstance(inherited, list)
    where = working_dir or str(first["cwd"])
    if user is None:
        variables = merged_environment(inherited, environment, ours=os.environ)
        return {**first, "args": list(command), "env": variables, "cwd": where, "terminal": terminal}
    found = fit_user(find_user(container.rootfs, user))
    kept = [word for word in inherited if not word.startswith("HOME=")]
    variables = merged_environment(kept, environment, ours=os.environ, defaults={"HOME": found.home})
    return process_config(command, environment=variables, working_dir=where, user=found, terminal=terminal)


@contextlib.contextmanager
def _stdin(*, interactive: bool) -> Iterator[None]:
    """Without ``interactive`` the command has no input: it would take that of a script which runs us."""
    if interactive:
        yield
        return
    kept = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(null, 0)
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(null)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the runtime, which forwards what it gets to the process; ctrl-C comes to both of us from the terminal."""
    old = {number: signal.signal(number, lambda number, _frame: child.send_signal(number)) for number in _FORWARDED}
    old[signal.SIGINT] = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        status = child.wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status
