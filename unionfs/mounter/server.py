"""Serving one mount, in the process that will do so: from the checks to the last file closed.

Once mounted, this process must not touch any path on its own mount point: it would wait for itself, and no signal ends that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio

from unionfs.fuse import mounting
from unionfs.fuse.session import Session, SessionError, SessionSettings
from unionfs.linux import mount as linux_mount
from unionfs.mounter import control_server
from unionfs.mounter.checks import check
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.live_layers import LiveLayers
from unionfs.mounter.locks import locked
from unionfs.mounter.process_figures import process_figures
from unionfs.mounter.process_setup import tune_garbage_collector
from unionfs.mounter.registry import Record, Registration, device_of, mount_namespace
from unionfs.mounter.request import MountRequest
from unionfs.mounter.stacking import stack_depth
from unionfs.overlay import Options as UnionOptions
from unionfs.overlay import Stack, Union

_log = logging.getLogger("unionfs.mounter")

_PATIENCE = 3.0
"""Seconds that a daemon whose mount is gone gets to close its files, before its upper counts as in use."""

_FLAGS = {
    "nosuid": linux_mount.MS_NOSUID,
    "nodev": linux_mount.MS_NODEV,
    "noexec": linux_mount.MS_NOEXEC,
    "noatime": linux_mount.MS_NOATIME,
    "nodiratime": linux_mount.MS_NODIRATIME,
    "relatime": linux_mount.MS_RELATIME,
    "strictatime": linux_mount.MS_STRICTATIME,
    "sync": linux_mount.MS_SYNCHRONOUS,
    "dirsync": linux_mount.MS_DIRSYNC,
}


def serve(request: MountRequest, log: Path | None, ready: Callable[[], None]) -> signal.Signals | None:
    """Mount and serve until somebody unmounts; ``ready`` is called when the mount is usable.  The signal that ended it, if one
    did.

    SIGTERM, SIGINT and SIGHUP (unless ignored by whoever started us) unmount: lazily if the mount is in use, so that its last
    user still gets what is asked for; a second one ends the serving at once.  ``log`` is only put into the registry.

    Raises:
        MounterError: refused, or the session could not start.
        OSError: a layer cannot be opened, or mounting failed.
    """
    checked = check(request)
    # Whoever started us may want to unmount the filesystem of the current directory, or to mount the union on it.
    os.chdir("/")
    with contextlib.ExitStack() as resources:
        if checked.upper is not None and checked.work is not None and not checked.read_only:
            # The upper is locked before anything is done about its work directory: that may be another mount's.
            resources.enter_context(locked(checked.upper, _PATIENCE))
            resources.enter_context(_work_directory(checked.work, own=request.work is None))
            resources.enter_context(locked(checked.work, _PATIENCE))
        registration = Registration()
        resources.callback(registration.remove)
        listener = control_server.listen(registration.directory)
        resources.callback(listener.close)
        union = Union(
            Stack(checked.lowers, checked.upper, checked.work, checked.data, checked.read_only),
            UnionOptions(
                redirect_dir=checked.redirect_dir,
                userxattr=checked.userxattr,
                metacopy=checked.metacopy,
                index=checked.index,
                fsync=checked.fsync,
                owners=checked.owners,
                acl=checked.acl,
                xattrs=checked.xattrs,
                static_nlink=checked.static_nlink,
                ino32=checked.ino32,
                max_inodes=checked.max_inodes,
                whiteout=checked.whiteout,
            ),
        )
        resources.callback(union.close)
        # Before mounting, like everything that touches a path of the layers.
        layers = [*checked.lowers, *checked.data, *([checked.upper] if checked.upper else [])]
        depth = checked.stack_depth or stack_depth(layers)
        tune_garbage_collector()
        with _mounted(checked) as (fd, device):
            session = _open_session(fd, union, checked, depth)
            # Not before it is mounted, so that a failure leaves no mark; nothing is served yet.
            if union.writable and checked.marks_volatile:
                union.mark_volatile()
            own_work = union.writable and request.work is None
            record = _record(registration, checked, device, log, own_work=own_work)

            def publish() -> None:
                registration.publish(record)
                _log.info("mounted %s", record.mountpoint)
                ready()

            return trio.run(_Server(session, union, LiveLayers(union, session, registration, record)).run, listener, publish)


def _record(registration: Registration, checked: MountRequest, device: int, log: Path | None, *, own_work: bool) -> Record:
    return Record(
        mountpoint=str(checked.mountpoint),
        pid=registration.pid,
        start_time=registration.start_time,
        device=device,
        namespace=mount_namespace(),
        lowers=[str(path) for path in checked.lowers],
        upper=_text(checked.upper),
        work=_text(checked.work),
        own_work=own_work,
        read_only=checked.read_only,
        transport=checked.transport,
        data_path=checked.data_path,
        source=checked.source,
        log=_text(log),
        mounted_at=time.time(),
        data=[str(path) for path in checked.data],
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


# -- acquiring and giving back ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _work_directory(work: Path, own: bool) -> Iterator[None]:
    """The work directory; with ``own`` (the user named none) it is made, and removed at the end unless it has something in it."""
    if own:
        work.mkdir(mode=0o700, exist_ok=True)
    try:
        yield
    finally:
        if own:
            # Not recursive: an index of hard links is part of what the upper means.
            for directory in (work / "work", work / "index", work):
                with contextlib.suppress(OSError):
                    directory.rmdir()


@contextlib.contextmanager
def _mounted(request: MountRequest) -> Iterator[tuple[int, int]]:
    """Mount; (descriptor of the connection, ``st_dev`` of the mount).  After an error the mount is taken away."""
    flags = linux_mount.MS_RDONLY if request.read_only else 0
    for word in request.flags:
        flags |= _FLAGS[word]
    options = mounting.MountOptions(
        source=request.source, flags=flags, allow_other=request.allow_other, allow_root=request.allow_root
    )
    # A signal from here to where `_Server` takes it would end us at once, and leave a dead mount.
    signal.pthread_sigmask(signal.SIG_BLOCK, _stop_signals())
    fd = mounting.mount(request.mountpoint, options)
    try:
        yield fd, device_of(request.mountpoint)
    except BaseException:
        # Closed first: that ends the connection, and with it whatever waits for an answer.
        os.close(fd)
        mounting.unmount(request.mountpoint, lazy=True)
        raise
    # Without an error the session has ended because the mount has: what is on the mount point now (the device number may even be
    # the same again) is somebody else's.
    os.close(fd)


def _open_session(fd: int, union: Union, request: MountRequest, depth: int) -> Session:
    settings: dict[str, Any] = {"data_path": request.data_path, "acl": union.has_acl}
    if request.spin_us is not None:
        settings["spin_us"] = request.spin_us
    settings["stack_depth"] = depth
    if request.timeout is not None:
        settings |= dict.fromkeys(("entry_timeout", "attr_timeout", "negative_timeout"), request.timeout)
    # Only the one that is used is loaded: pyfuse3 brings libfuse along.
    if request.transport == "pyfuse3":
        from unionfs.fuse.pyfuse3_session import Pyfuse3Session

        return Pyfuse3Session(fd, union, SessionSettings(**settings))
    from unionfs.fuse.direct_session import DirectSession

    return DirectSession(fd, union, SessionSettings(**settings))


# -- serving ------------------------------------------------------------------------------------------------------------------


class _Server:
    """The tasks of a mounted union: the session, the control socket, the signals."""

    def __init__(self, session: Session, union: Union, layers: LiveLayers) -> None:
        self._session = session
        self._union = union
        self._layers = layers
        self._mountpoint = layers.record.mountpoint
        self._error: SessionError | None = None
        self._stopped_by: signal.Signals | None = None

    async def run(self, listener: Any, ready: Callable[[], None]) -> signal.Signals | None:
        handlers = {"status": self._status, "explain": self._explain, **self._layers.handlers}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_on_signal, nursery.cancel_scope)
            await nursery.start(self._run_session, nursery.cancel_scope)
            if self._error is None:
                ready()
                nursery.start_soon(control_server.serve, listener, handlers)
        _log.info("%s is no longer mounted", self._mountpoint)
        if self._error is not None:
            raise DaemonError(self._mountpoint, str(self._error))
        return self._stopped_by

    async def _run_session(
        self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await self._session.run(task_status=task_status)
        except SessionError as error:
            # Kept, not raised: out of a nursery it would come inside an exception group.
            self._error = error
            task_status.started()
        everything.cancel()

    async def _stop_on_signal(self, everything: trio.CancelScope) -> None:
        stop_signals = _stop_signals()
        with trio.open_signal_receiver(*stop_signals) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
            async for number in signals:
                if self._stopped_by is not None:
                    everything.cancel()
                    return
                self._stopped_by = signal.Signals(number)
                # In a thread: unmounting writes dirty pages back, and the requests for that are ours to answer.
                await trio.to_thread.run_sync(_unmount, Path(self._mountpoint), abandon_on_cancel=True)

    async def _status(self, _request: dict[str, Any]) -> object:
        return {
            **dataclasses.asdict(self._layers.record),
            "negotiated": self._session.negotiated,
            "requests": self._session.counters,
            "request_times": self._session.times,
            "process": process_figures(),
            "union": self._union.statistics(),
        }

    async def _explain(self, request: dict[str, Any]) -> object:
        return self._union.explain(os.fsencode(str(request.get("path", ""))))


def _stop_signals() -> list[signal.Signals]:
    # A shell starts background jobs with SIGINT ignored, nohup(1) with SIGHUP: they mean it.
    all_signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return [number for number in all_signals if signal.getsignal(number) is not signal.SIG_IGN]


def _unmount(mountpoint: Path) -> None:
    try:
        mounting.unmount(mountpoint)
    except OSError:
        # In use: from now on nobody new comes in, and the session ends with the last user.
        mounting.unmount(mountpoint, lazy=True)
