"""What the commands do with containers: run, stop, kill, remove."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from unionfs.containers import teardown
from unionfs.containers.attached import Attachment, terminal_size, wait_until_started
from unionfs.containers.container import Container, Containers
from unionfs.containers.monitor import DEFAULT_SIZE, start_monitor
from unionfs.containers.names import check_name
from unionfs.containers.options import RunOptions, parse_signal
from unionfs.containers.recovery import alone_with, recover, resume_forgotten
from unionfs.mounter.processes import is_running, wait_for_end
from unionfs.store.errors import InUseError, StoreError, wrong_usage
from unionfs.store.store import Store, open_store

_UNDO_TIMEOUT = 60.0
"""Seconds that a monitor may take to undo everything after the container's end: files may still be written back."""

_LOOK_AGAIN = 0.02


@contextlib.contextmanager
def opened(root: Path) -> Iterator[tuple[Store, Containers]]:
    """The store at ``root``, and its containers."""
    store = open_store(root)
    try:
        yield store, Containers(root, store.database)
    finally:
        store.close()


@contextlib.contextmanager
def _found(root: Path, name: str) -> Iterator[tuple[Store, Container]]:
    """A container, after those are cleaned up whose monitors were killed, and its store."""
    with opened(root) as (store, containers):
        recover(store, containers)
        yield store, containers.find(name)


def run_detached(root: Path, options: RunOptions) -> str:
    """Run a container in the background; its ID.

    Raises:
        StoreError: it could not begin; `unionfs.containers.runtime.RuntimeFailedError` has an exit status.
    """
    _check(root, options)
    monitor, connection = start_monitor(root, options)
    with connection:
        return wait_until_started(monitor, connection)


def run_attached(root: Path, options: RunOptions) -> int:
    """Run a container in the foreground, with the standard streams of this process; its exit status.

    Raises:
        StoreError: it could not begin; `unionfs.containers.runtime.RuntimeFailedError` has an exit status.
    """
    if options.terminal and not os.isatty(0):
        raise wrong_usage("standard input", "is no terminal", "leave --tty out, or run it in one")
    _check(root, options)
    size = terminal_size() if options.terminal else DEFAULT_SIZE
    monitor, connection = start_monitor(root, options, size)
    with connection:
        attachment = Attachment(monitor, connection, has_stdin=options.interactive, is_terminal=options.terminal)
        return attachment.run()


def _check(root: Path, options: RunOptions) -> None:
    """What shows before a process is started for it."""
    if options.name is not None:
        check_name(options.name)
    if os.geteuid() != 0:
        raise StoreError(
            "run",
            "needs root, of the machine or of a user namespace: it makes namespaces and mounts",
            "use the command, which sees to that (unionfs run)",
        )
    # A name that is taken by a container whose monitor was killed, with --rm, is free again.
    with opened(root) as (store, containers):
        recover(store, containers)


# -- stopping -----------------------------------------------------------------------------------------------------------------


def stop(root: Path, name: str, timeout: float) -> str:
    """Ask a container to end, kill it after ``timeout`` seconds, and wait until everything is undone; nothing if it has ended.
    Its name.

    Raises:
        NotFoundError: there is none.
        StoreError: it does not end.
    """
    with _found(root, name) as (store, container):
        config = store.images.find(container.image).config
    number = parse_signal(container.options.stop_signal or config.stop_signal or "SIGTERM")
    _wait_until_begun(container)
    if not _send(container, number) or not _has_ended(container, timeout):
        _send(container, signal.SIGKILL)
    _wait_until_undone(container)
    return container.name


def kill(root: Path, name: str, number: signal.Signals) -> str:
    """Send a signal to a container's first process.  The container's name.

    Raises:
        NotFoundError: there is none.
        StoreError: it does not run.
    """
    with _found(root, name) as (_, container):
        pass
    if not _send(container, number):
        raise StoreError(container.name, "it does not run", "unionfs ps lists what runs")
    return container.name


def _wait_until_begun(container: Container) -> None:
    """One that is just being made has nobody yet to send a signal to, and would run on afterwards."""
    deadline = time.monotonic() + _UNDO_TIMEOUT
    while container.status().state == "created":
        if wait_for_end(container.monitor, container.monitor_started, _LOOK_AGAIN):
            return
        if time.monotonic() > deadline:
            raise StoreError(container.name, "it has not begun to run", "see what its runtime waits for")


def _send(container: Container, number: signal.Signals) -> bool:
    """False: its first process is not there (yet, or any more)."""
    status = container.status()
    if status.state != "running" or status.pid is None or status.pid_started is None:
        return False
    try:
        pidfd = os.pidfd_open(status.pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at with the descriptor open: it cannot come to mean another process.
        if not is_running(status.pid, status.pid_started):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _has_ended(container: Container, timeout: float) -> bool:
    status = container.status()
    assert status.pid is not None
    assert status.pid_started is not None
    return wait_for_end(status.pid, status.pid_started, timeout)


def _wait_until_undone(container: Container) -> None:
    if not wait_for_end(container.monitor, container.monitor_started, _UNDO_TIMEOUT):
        raise StoreError(container.name, f"its monitor {container.monitor} has not ended", "see what uses its files (fuser -m)")


# -- removing -----------------------------------------------------------------------------------------------------------------


def remove(root: Path, name: str, *, force: bool, with_volumes: bool = False) -> str:
    """Remove a container with its writable layer; with ``force`` one that runs, too; ``with_volumes``: and its anonymous volumes.
    Its name.

    Raises:
        NotFoundError: there is none.
        InUseError: it runs.
    """
    with opened(root) as (store, containers):
        container = containers.find(name)
        if container.has_monitor:
            if not force:
                raise InUseError(container.name, "the container runs", "stop it first (unionfs stop), or remove it with --force")
            _wait_until_begun(container)
            resume_forgotten(root, container)  # what is frozen does not even die
            _send(container, signal.SIGKILL)
            _wait_until_undone(container)
        recover(store, containers)
        if any(found.id == container.id for found in containers.all()):
            with alone_with(root, container):
                teardown.remove(store, containers, container, with_volumes=with_volumes)
    return container.name
