"""Serving one mount, in the process that will do so: from the checks to the last file closed.

Once mounted, this process must not touch any path on its own mount point: it would wait for itself, and no signal ends that.

Whoever mounts waits for the mount, not for all that serves it later: trio, which `unionfs.mounter.serving` needs, takes as long
to load as the rest.  So with the direct transport the mount is ready before, and the first requests are answered without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unionfs.fuse import mounting
from unionfs.fuse.handshake import connect
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.linux import mount as linux_mount
from unionfs.mounter.checks import check
from unionfs.mounter.control import listen
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.loading import load_while_serving
from unionfs.mounter.locks import locked
from unionfs.mounter.process_setup import keep_what_is_loaded, stop_signals, tune_garbage_collector
from unionfs.mounter.registry import Record, Registration, device_of, mount_namespace
from unionfs.mounter.request import MountRequest
from unionfs.mounter.size_limits import open_union, settled, upper_project
from unionfs.mounter.snapshot_layers import with_snapshots
from unionfs.mounter.stacking import stack_depth
from unionfs.overlay import Stack, Union

if TYPE_CHECKING:
    from unionfs.mounter.serving import Server

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
        listener = listen(registration.directory)
        resources.callback(listener.close)
        # First of all, for without a limit there is room for what the others do.
        project = resources.enter_context(upper_project(checked))
        checked, snapshots = with_snapshots(checked)
        checked, project = settled(checked, project)
        stack = Stack(checked.lowers, checked.upper, checked.work, checked.data, checked.read_only, snapshots)
        union = open_union(stack, checked, project)
        resources.callback(union.close)
        # Before mounting, like everything that touches a path of the layers.
        settings = _session_settings(union, checked)
        with _mounted(checked) as (fd, device):
            # Not before it is mounted, so that a failure leaves no mark; nothing is served yet.
            if union.writable and checked.marks_volatile:
                union.mark_volatile()
            own_work = union.writable and request.work is None
            record = _record(registration, checked, device, log, own_work=own_work, snapshots=snapshots)

            def publish() -> None:
                registration.publish(record)
                _log.info("mounted %s", record.mountpoint)
                ready()

            serve_mounted = _serve_pyfuse3 if checked.transport == "pyfuse3" else _serve_direct
            return serve_mounted(fd, settings, _Mounted(union, registration, record, listener), publish)


# -- what is mounted ----------------------------------------------------------------------------------------------------------


class _Mounted(NamedTuple):
    """What a `unionfs.mounter.serving.Server` is made of."""

    union: Union
    registration: Registration
    record: Record
    listener: socket.socket


def _serve_direct(fd: int, settings: SessionSettings, mounted: _Mounted, publish: Callable[[], None]) -> signal.Signals | None:
    try:
        connection = connect(fd, mounted.union, settings)
    except SessionError as error:
        raise DaemonError(mounted.record.mountpoint, str(error)) from error
    with contextlib.closing(connection):
        publish()
        # So that the collection below, which requests wait for, looks only through what is loaded from here on: 1 ms and not 5.
        keep_what_is_loaded()
        server = load_while_serving(_load_server, connection)(*mounted)
        tune_garbage_collector()
        return server.serve_direct(connection, settings)


def _serve_pyfuse3(fd: int, settings: SessionSettings, mounted: _Mounted, publish: Callable[[], None]) -> signal.Signals | None:
    server = _load_server()(*mounted)
    tune_garbage_collector()
    return server.serve_pyfuse3(fd, settings, publish)


def _load_server() -> type[Server]:
    from unionfs.mounter.serving import Server

    return Server


def _record(
    registration: Registration, checked: MountRequest, device: int, log: Path | None, *, own_work: bool, snapshots: int
) -> Record:
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
        snapshots=snapshots,
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
    # A signal from here to where `unionfs.mounter.serving` takes it would end us at once, and leave a dead mount.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
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


def _session_settings(union: Union, request: MountRequest) -> SessionSettings:
    layers = [*request.lowers, *request.data, *([request.upper] if request.upper else [])]
    settings: dict[str, Any] = {
        "data_path": request.data_path,
        # With writes held back, write(2) would say yes to what the limit refuses later.
        "writeback": request.size is None,
        "acl": union.has_acl,
        "stack_depth": request.stack_depth or stack_depth(layers),
    }
    if request.spin_us is not None:
        settings["spin_us"] = request.spin_us
    if request.timeout is not None:
        settings |= dict.fromkeys(("entry_timeout", "attr_timeout", "negative_timeout"), request.timeout)
    return SessionSettings(**settings)
