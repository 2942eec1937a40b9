"""Nothing changes in a container's writable layer for a while: the container is paused, and always let go on.

A process of its own pauses it and lets it go on, as soon as whoever asked is done, or is no more: nothing else would ever end the
pause of a container whose `commit` was killed.  Should that process be killed as well, the next one who cleans up does it
(`unionfs.containers.recovery`), by the note that is made before the pause.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from unionfs.containers.container import Container
from unionfs.containers.recovery import alone_with, end_pause, marked_paused, resume_forgotten
from unionfs.containers.runtime import Runtime, find_runtime
from unionfs.containers.signal_pause import stop_all
from unionfs.linux.capabilities import in_initial_user_namespace
from unionfs.mounter.errors import MounterError, from_os_error
from unionfs.store.errors import StoreError
from unionfs.store.staging import sync

_Words = list[str | None]
_PAUSED: _Words = ["paused"]
_GOES_ON: _Words = ["goes on"]
"""What the process says, as JSON: one of these, or thing, problem and remedy of an error."""
_LONGEST = 1 << 16


@contextlib.contextmanager
def quiet(root: Path, container: Container) -> Iterator[None]:
    """Nothing changes in the container's writable layer meanwhile, and all that was changed is there.

    Raises:
        InUseError: another command is at work on it.
        RuntimeFailedError: it cannot be paused, or cannot go on.
    """
    if not container.has_monitor:
        with alone_with(root, container):
            yield
        return
    with _paused(root, container):
        # What the kernel holds back of what was written through the mount goes to the layer.
        sync(container.rootfs)
        yield


@contextlib.contextmanager
def _paused(root: Path, container: Container) -> Iterator[None]:
    runtime = find_runtime(container.options.runtime)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_pauser(root, container, runtime, theirs)
    theirs.close()
    try:
        with ours:
            _heard(ours, _PAUSED, container)
            try:
                yield
            finally:
                ours.shutdown(socket.SHUT_WR)
                _heard(ours, _GOES_ON, container)
    finally:
        os.waitpid(pid, 0)
        # Nothing to do, unless the process was killed.
        resume_forgotten(root, container)


def _heard(connection: socket.socket, wanted: _Words, container: Container) -> None:
    said = connection.recv(_LONGEST)
    if not said:
        raise StoreError(container.name, "the process that pauses it was killed", "try again")
    words = json.loads(said)
    if words != wanted:
        thing, problem, remedy = words
        raise StoreError(thing, problem, remedy)


def _become_pauser(root: Path, container: Container, runtime: Runtime, connection: socket.socket) -> NoReturn:
    """The process's whole life.  Does not return: below are the frames of the command."""
    try:
        os.setsid()  # a signal to the command's process group, or of its terminal, is not for us
        _leave_standard_streams()
        _say(connection, _pause(root, container, runtime, connection))
    finally:
        os._exit(0)


def _pause(root: Path, container: Container, runtime: Runtime, connection: socket.socket) -> _Words:
    """What is to be said at the end."""
    try:
        with alone_with(root, container), marked_paused(container) as note:
            try:
                _stop(container, runtime, note)
                _say(connection, _PAUSED)
                connection.recv(1)  # until the end of whoever asked, by itself or not
            finally:
                end_pause(container, runtime)
    except MounterError as error:
        return [error.thing, error.problem, error.remedy]
    except OSError as error:
        failure = from_os_error(error, container.name)
        return [failure.thing, failure.problem, failure.remedy]
    return _GOES_ON


def _stop(container: Container, runtime: Runtime, note: int) -> None:
    if in_initial_user_namespace():
        runtime.pause(container.directory, container.id, note)
    else:
        stop_all(container)


def _say(connection: socket.socket, words: _Words) -> None:
    # Nobody may be left to hear it.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send(json.dumps(words).encode())


def _leave_standard_streams() -> None:
    """Or who reads the command's output would wait for our end."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
