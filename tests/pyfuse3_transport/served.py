"""A filesystem served by a `Pyfuse3Session` in a thread, so that the test's own thread can be the client."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.mounts import is_mounted
from unionfs.filesystem import Filesystem
from unionfs.fuse.mounting import MountOptions, mount, unmount
from unionfs.fuse.pyfuse3_session import Pyfuse3Session
from unionfs.fuse.session import SessionSettings

TIMEOUT = 60.0
"""Seconds after which a session that did not start or end hangs."""


def as_user(uid: int, program: str, directory: Path) -> None:
    """Run Python code as another user, with ``directory`` as its working directory.

    It changes identity after the start: neither the interpreter nor the way to the directory need be open to other users.  It
    goes to the directory after the start too: `subprocess` holds the interpreter lock until the child has replaced itself, and
    with ``cwd`` the child would wait for an answer of the server, which is a thread of ours that needs the lock."""
    prologue = f"import os, sys; os.chdir(sys.argv[1]); os.setgroups([]); os.setresgid(*[{uid}] * 3); os.setresuid(*[{uid}] * 3)"
    command = [sys.executable, "-I", "-c", f"{prologue}\n{program}", directory]
    subprocess.run(command, check=True, timeout=TIMEOUT)


@dataclass
class Served:
    """A running mount.  ``ended`` is set when `Pyfuse3Session.run` returned or raised."""

    mountpoint: Path
    session: Pyfuse3Session
    ended: threading.Event
    error: BaseException | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    trio_token: trio.lowlevel.TrioToken | None = None

    def cancel(self) -> None:
        """Cancel `Pyfuse3Session.run` from another thread."""
        assert self.trio_token is not None
        self.trio_token.run_sync_soon(self.scope.cancel)


@contextmanager
def serve(
    mountpoint: Path,
    filesystem: Filesystem,
    settings: SessionSettings = SessionSettings(),  # noqa: B008 -- frozen
    options: MountOptions = MountOptions(allow_other=True),  # noqa: B008 -- frozen
) -> Iterator[Served]:
    """Mount ``filesystem`` until the end of the block, which fails if the session did or does not end with the mount."""
    fd = mount(mountpoint, options)
    served = Served(mountpoint, Pyfuse3Session(fd, filesystem, settings), threading.Event())
    ready = threading.Event()

    async def run() -> None:
        served.trio_token = trio.lowlevel.current_trio_token()
        with served.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(run_session)
                ready.set()

    async def run_session(task_status: trio.TaskStatus[None]) -> None:
        await served.session.run(task_status=task_status)

    def thread_main() -> None:
        try:
            trio.run(run)
        except BaseException as error:  # handed to the test's thread
            served.error = error
        finally:
            os.close(fd)
            served.ended.set()
            ready.set()

    thread = threading.Thread(target=thread_main, name="session", daemon=True)
    thread.start()
    try:
        assert ready.wait(TIMEOUT), "the session did not start"
        yield served
    finally:
        if is_mounted(mountpoint):  # asks /proc: a stat would hang with a session that hangs
            unmount(mountpoint, lazy=True)
        assert served.ended.wait(TIMEOUT), "the session did not end with the mount"
        thread.join(TIMEOUT)
        filesystem.close()
    if served.error is not None:
        raise served.error
