"""Stopping all processes of a container where there is no freezer cgroup (rootless): by SIGSTOP to each.

What has happened meanwhile shows to none of them but to a parent that asks for stopped children (waitpid(2), WUNTRACED), as
shells with job control do; a freezer shows to nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unionfs.containers.container import Container
from unionfs.store.errors import StoreError

_NOTE = "stopped.json"
_TIMEOUT = 30.0
_LOOK_AGAIN = 0.005


class _Process(NamedTuple):
    """``started`` tells it from others with its number (`unionfs.mounter.processes`)."""

    pid: int
    started: int
    parent: int
    state: str


def stop_all(container: Container) -> None:
    """Stop the processes of a running container.  Those that were stopped before are noted first, and stay so at the end.

    Raises:
        StoreError: one does not stop: it waits for a disk or a server.
        OSError: the note cannot be written.
    """
    first = container.status().pid
    assert first is not None
    before = [(each.pid, each.started) for each in _processes_of(first) if each.state == "T"]
    (container.directory / _NOTE).write_text(json.dumps(before))
    deadline = time.monotonic() + _TIMEOUT
    # One that forks just now is seen the next time; its children too are stopped then.
    while running := [each for each in _processes_of(first) if each.state not in "TZX"]:
        if time.monotonic() > deadline:
            problem = f"process {running[0].pid} does not stop"
            raise StoreError(container.name, problem, "see what it waits for (cat /proc/PID/stack)")
        for each in running:
            _send(each.pid, signal.SIGSTOP)
        time.sleep(_LOOK_AGAIN)


def let_go_on(container: Container) -> None:
    """Undo `stop_all`, this process's or that of a killed one; nothing where there is nothing to undo."""
    note = container.directory / _NOTE
    try:
        before = {tuple(each) for each in json.loads(note.read_text())}
    except FileNotFoundError:
        return
    except ValueError:  # killed while it was written: nothing had been stopped yet
        before = set()
    first = container.status().pid
    for each in _processes_of(first) if first is not None else ():
        if each.state == "T" and (each.pid, each.started) not in before:
            _send(each.pid, signal.SIGCONT)
    note.unlink()


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _processes_of(first: int) -> list[_Process]:
    """The processes of the container with that first process: of its namespace of processes, those that came in from outside
    (exec) too, and their descendants, which may have further namespaces."""
    try:
        namespace = os.stat(f"/proc/{first}/ns/pid").st_ino
    except FileNotFoundError:
        return []
    everybody = list(_everybody())
    found = {each.pid for each in everybody if _pid_namespace(each.pid) == namespace}
    before = 0
    while len(found) > before:
        before = len(found)
        found |= {each.pid for each in everybody if each.parent in found}
    return [each for each in everybody if each.pid in found]


def _everybody() -> Iterator[_Process]:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # proc_pid_stat(5): the name, in parentheses, may hold anything.
            fields = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
            yield _Process(int(name), int(fields[19]), int(fields[1]), fields[0].decode())


def _pid_namespace(pid: int) -> int | None:
    with contextlib.suppress(OSError):  # another user's, or gone
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    return None
