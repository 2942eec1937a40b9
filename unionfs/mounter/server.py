"""Serving one mount, from the checks to the last file closed.

Once mounted, no process of ours must touch any path on the mount point: it would wait for itself, and no signal ends that.

With the direct transport this process becomes the supervisor of the mount, and workers serve it (`unionfs.mounter.supervisor`,
`unionfs.mounter.worker`).  pyfuse3 cannot go on with a connection that another process has begun: there this process serves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unionfs.fuse import mounting
from unionfs.fuse.handshake import agree
from unionfs.fuse.negotiation import Negotiated
from unionfs.fuse.request_times import RequestTimes
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.journal.storage import FORMAT, JournalFile, new_journal
from unionfs.linux import mount as linux_mount
from unionfs.mounter.checks import check
from unionfs.mounter.control import listen
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.held import Handover, Held, Progress, open_descriptors, replace_program
from unionfs.mounter.locks import locked
from unionfs.mounter.process_setup import stop_signals, tune_garbage_collector
from unionfs.mounter.registry import Record, Registration, device_of, mount_namespace
from unionfs.mounter.request import MountRequest
from unionfs.mounter.size_limits import open_union, settled, upper_project
from unionfs.mounter.snapshot_layers import with_snapshots
from unionfs.mounter.stacking import stack_depth
from unionfs.mounter.supervisor import Ended, Status, Supervisor
from unionfs.mounter.worker import serve_first, take_over
from unionfs.overlay import Stack, Union
from unionfs.overlay.upper_project import UpperProject

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
        MounterError: refused, the session could not start, or nobody could serve it any more.
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
        kept = open_descriptors()
        settled_request, project = settled(checked, project)
        stacked, snapshots = with_snapshots(settled_request)
        stack = Stack(stacked.lowers, stacked.upper, stacked.work, stacked.data, stacked.read_only, snapshots)
        union = open_union(stack, stacked, project)
        own = resources.enter_context(contextlib.ExitStack())
        own.callback(union.close)
        # Before mounting, like everything that touches a path of the layers.
        settings = _session_settings(union, stacked)
        with _mounted(stacked) as (fd, device):
            # Not before it is mounted, so that a failure leaves no mark; nothing is served yet.
            if union.writable and stacked.marks_volatile:
                union.mark_volatile()
            own_work = union.writable and request.work is None
            record = _record(registration, stacked, device, log, own_work=own_work, snapshots=snapshots)

            def publish(record: Record) -> None:
                registration.publish(record)
                _log.info("mounted %s", record.mountpoint)
                ready()

            if stacked.transport == "pyfuse3":
                return _serve_pyfuse3(fd, settings, _Mounted(union, registration, record, listener), lambda: publish(record))
            negotiated, times = _agree(fd, settings, record.mountpoint)
            journal_fd = new_journal()
            held = Held(
                request=settled_request,
                is_limited=project is not None,
                own_work=own_work,
                locked_upper=_key(checked.upper),
                registration=registration,
                settings=settings,
                negotiated=negotiated,
                fd=fd,
                listener_fd=listener.fileno(),
                journal_fd=journal_fd,
                kept=kept | {fd, journal_fd},
                journal_format=FORMAT,
                log=log,
                level=logging.getLogger().level,
            )
            supervisor = _supervisor(held)

            def started(worker: int) -> None:
                # What the union has open is the worker's, and must not be closed here.
                own.pop_all()
                publish(dataclasses.replace(record, worker=worker))

            ended = hold(held, supervisor, project, lambda: serve_first(held, union, record, times), started)
            if ended is Ended.FAILED and not supervisor.restarts:
                # Nobody has ever served it for good: it is taken away.
                raise DaemonError(record.mountpoint, "the daemon cannot serve it", f"see its log {log}")
        return conclude(held, supervisor, ended)


def resume(handover: Handover) -> signal.Signals | None:
    """Go on holding a mount in place of another program; as `serve` from there on."""
    held = handover.held
    request = held.request
    with contextlib.ExitStack() as resources:
        if request.upper is not None and request.work is not None and not request.read_only:
            resources.enter_context(_work_directory(request.work, own=held.own_work))
        resources.callback(held.registration.remove)
        project = resources.enter_context(upper_project(request)) if held.is_limited else None
        if project is not None:
            held = held.keeping(project.fd)
        supervisor = _supervisor(held)
        supervisor.restarts, supervisor.last_end = handover.restarts, handover.last_end
        ended = hold(held, supervisor, project)
        os.close(held.fd)
        return conclude(held, supervisor, ended)


# -- holding ------------------------------------------------------------------------------------------------------------------


def hold(
    held: Held,
    supervisor: Supervisor,
    project: UpperProject | None,
    first: Callable[[], Status] | None = None,
    started: Callable[[int], None] = lambda _pid: None,
) -> Ended:
    """Have workers serve the mount to its end: ``first``, if there was none before (``started`` gets its process id), then those
    that take over."""

    def successor() -> Status:
        return take_over(held, project, supervisor.restarts, supervisor.last_end)

    ended = supervisor.run(first or successor, successor, started)
    while ended is Ended.RESTART:
        try:
            replace_program(held, supervisor.restarts, supervisor.last_end)
        except OSError as error:
            _log.error("the program that is installed now cannot be started, so this one goes on: %s", error)
        ended = supervisor.run(successor, successor)
    return ended


def conclude(held: Held, supervisor: Supervisor, ended: Ended) -> signal.Signals | None:
    """After the last worker, and with the connection closed.

    Raises:
        DaemonError: the mount is there, and nobody serves it.
    """
    if ended is Ended.FAILED:
        mountpoint = str(held.mountpoint)
        problem = f"nobody serves it any more, after {supervisor.restarts} restarts; the last worker was {supervisor.last_end}"
        held.registration.keep(problem, supervisor.restarts, supervisor.last_end)
        raise DaemonError(mountpoint, problem, f"unionfs umount {mountpoint}")
    if ended is Ended.STOPPED:
        mounting.unmount(held.mountpoint, lazy=True)
    return supervisor.stopped_by


def _supervisor(held: Held) -> Supervisor:
    progress = Progress(JournalFile(held.journal_fd))
    return Supervisor(progress.take, held.negotiated.can_resend)


def _agree(fd: int, settings: SessionSettings, mountpoint: str) -> tuple[Negotiated, RequestTimes]:
    try:
        return agree(fd, settings)
    except SessionError as error:
        raise DaemonError(mountpoint, str(error)) from error


def _key(directory: Path | None) -> tuple[int, int] | None:
    if directory is None:
        return None
    st = directory.stat()
    return st.st_dev, st.st_ino


# -- serving here -------------------------------------------------------------------------------------------------------------


class _Mounted(NamedTuple):
    """What a `unionfs.mounter.serving.Server` is made of."""

    union: Union
    registration: Registration
    record: Record
    listener: socket.socket


def _serve_pyfuse3(fd: int, settings: SessionSettings, mounted: _Mounted, publish: Callable[[], None]) -> signal.Signals | None:
    server = _load_server()(*mounted, stop_signals())
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
