"""Serving a filesystem on a real mount, from a thread of its own, so that the test can be the client.

A client thread must give up the GIL in every call that reaches the mount, or the serving thread never gets to answer.  The
functions of ``os`` do; a page fault in a mapping does not, so tests that map files do it in another process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from tests.fake_filesystem import FakeFilesystem
from tests.mounts import is_mounted
from unionfs.filesystem import Filesystem
from unionfs.fuse.direct_session import DirectSession
from unionfs.fuse.handshake import connect
from unionfs.fuse.mounting import MountOptions, mount, unmount
from unionfs.fuse.session import Session, SessionSettings
from unionfs.linux import mount as linux_mount

DEADLINE = 20.0
"""Seconds after which something that must happen is taken for hung."""


@dataclass
class Served:
    """A mount being served.  ``session`` is there when it is ready; ``ended`` is set when `Session.run` has returned; ``error``
    is what went wrong."""

    mountpoint: Path
    ended: threading.Event
    session: Session = field(init=False)
    error: BaseException | None = None

    def abort(self) -> None:
        """Abort the connection from outside, as ``umount -f`` does; the mount itself stays while somebody is in it."""
        try:
            linux_mount.umount(os.fsencode(self.mountpoint), linux_mount.MNT_FORCE)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise


class _Serving:
    def __init__(self, served: Served, fd: int, filesystem: Filesystem, settings: SessionSettings) -> None:
        self._served = served
        self._connect = partial(connect, fd, filesystem, settings)
        self._spin_us = settings.spin_us
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            with contextlib.closing(self._connect()) as connection:
                self._served.session = DirectSession(connection, self._spin_us)
                trio.run(self._main)
        except BaseException as error:
            self._served.error = error
        finally:
            self._served.ended.set()
            self.ready.set()

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._session_run)
            self.ready.set()

    async def _session_run(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self._served.session.run(task_status=task_status)


@contextlib.contextmanager
def served(
    mountpoint: Path,
    filesystem: FakeFilesystem,
    settings: SessionSettings = SessionSettings(),  # noqa: B008  frozen
    options: MountOptions = MountOptions(allow_other=True),  # noqa: B008  frozen
) -> Iterator[Served]:
    """Mount ``filesystem`` on ``mountpoint`` and serve it until the end of the block."""
    fd = mount(mountpoint, options)
    running = Served(mountpoint, threading.Event())
    serving = _Serving(running, fd, filesystem, settings)
    serving.thread.start()
    try:
        assert serving.ready.wait(DEADLINE), "the session did not get ready"
        yield running
    finally:
        if is_mounted(mountpoint):
            unmount(mountpoint, lazy=True)
        serving.thread.join(DEADLINE)
        os.close(fd)
        filesystem.close()
        assert not serving.thread.is_alive(), "the session did not end"


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about."""
    deadline = threading.Event()
    timer = threading.Timer(DEADLINE, deadline.set)
    timer.start()
    try:
        while not condition():
            assert not deadline.is_set(), "what was waited for did not happen"
            os.sched_yield()
    finally:
        timer.cancel()
