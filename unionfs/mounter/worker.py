"""Serving a mount that a supervisor holds: from the start, or in the place of a worker that has died.

Whoever mounts waits for the mount, not for all that serves it later: trio, which `unionfs.mounter.serving` needs, takes as long
to load as the rest.  So the first requests are answered without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from unionfs.fuse.device import was_aborted
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.intents import intents_of
from unionfs.fuse.request_times import RequestTimes
from unionfs.journal.journal import Journal
from unionfs.journal.recovered import read_journal
from unionfs.journal.storage import JournalFile
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.errors import RefusedError
from unionfs.mounter.held import Held, Progress, close_left_over, open_descriptors
from unionfs.mounter.loading import load_while_serving
from unionfs.mounter.locks import lock
from unionfs.mounter.process_setup import keep_what_is_loaded, tune_garbage_collector
from unionfs.mounter.registry import Record
from unionfs.mounter.request import MountRequest
from unionfs.mounter.size_limits import open_union
from unionfs.mounter.snapshot_layers import with_snapshots
from unionfs.mounter.supervisor import STOP_SIGNAL, Status
from unionfs.overlay import Stack, Union
from unionfs.overlay.snapshots import snapshots_directory
from unionfs.overlay.upper_project import UpperProject

if TYPE_CHECKING:
    from unionfs.mounter.serving import Server

_log = logging.getLogger("unionfs.mounter")

_LOCK_PATIENCE = 3.0
"""Seconds; a lock that the killed worker held is free at once."""


def serve_first(held: Held, union: Union, record: Record, times: RequestTimes) -> Status:
    """Serve a mount that is ready, to its end."""
    file = JournalFile(held.journal_fd)
    journal = Journal(file)
    union.use_journal(journal)
    connection = DirectConnection(held.fd, union, held.settings, held.negotiated, times, journal)
    record = dataclasses.replace(record, worker=os.getpid())
    return _serve(held, union, connection, record, Progress(file), is_settled=True)


def take_over(held: Held, project: UpperProject | None, restarts: int, last_end: str | None) -> Status:
    """Go on where another worker has died.

    Raises:
        MounterError: the mount lies over its own layers now, or they are not what they were.
        OSError: a layer cannot be opened or read.
    """
    began = time.monotonic()
    file = JournalFile(held.journal_fd)
    recovered = read_journal(file, intents_of(held.negotiated), open_descriptors())
    close_left_over(held, recovered.descriptors)
    old = held.registration.read()
    chain, snapshots = with_snapshots(dataclasses.replace(held.request, lowers=()), goes_on=True)
    stacked = dataclasses.replace(held.request, lowers=_lowers(old, chain.lowers))
    _refuse_covered(stacked, old.device)
    _lock_upper(held, stacked)
    stack = Stack(
        stacked.lowers,
        stacked.upper,
        stacked.work,
        stacked.data,
        stacked.read_only,
        former_uppers=frozenset(chain.lowers),
        goes_on=True,
    )
    union = open_union(stack, stacked, project)
    found = union.recover(recovered)
    journal = Journal(file)
    union.use_journal(journal)
    union.note_recovered(recovered)
    connection = DirectConnection(held.fd, union, held.settings, held.negotiated, RequestTimes(), journal)
    connection.recover(recovered, found.done)
    record = dataclasses.replace(
        old,
        lowers=[str(path) for path in stacked.lowers],
        snapshots=snapshots,
        worker=os.getpid(),
        restarts=restarts,
        last_end=last_end,
        lost_nodes=old.lost_nodes + found.lost,
        takeover_ms=round((time.monotonic() - began) * 1000, 1),
    )
    held.registration.publish(record)
    return _serve(held, union, connection, record, Progress(file), is_settled=not recovered.unsettled)


def _serve(
    held: Held, union: Union, connection: DirectConnection, record: Record, progress: Progress, *, is_settled: bool
) -> Status:
    with contextlib.closing(connection):
        # So that the collection below, which requests wait for, looks only through what is loaded from here on: 1 ms and not 5.
        keep_what_is_loaded()
        try:
            server_type = load_while_serving(_load_server, connection)
        except ImportError:
            _log.exception("what serves the mount cannot be loaded")
            return Status.FAILED
        tune_garbage_collector()
        listener = socket.socket(fileno=os.dup(held.listener_fd))
        server = server_type(union, held.registration, record, listener, (STOP_SIGNAL,))
        status = server.serve_direct(connection, held, progress, is_settled=is_settled)
    if status is Status.UNMOUNTED and was_aborted(held.fd):
        status = Status.ABORTED
    if status is Status.RESTART:
        # Only now, with the last request answered, is it known what has no name.  The next worker makes an end of all else.
        for fd in union.held_descriptors():
            os.set_inheritable(fd, True)
    else:
        union.close()
    return status


def _load_server() -> type[Server]:
    from unionfs.mounter.serving import Server

    return Server


def _lowers(record: Record, chain: tuple[Path, ...]) -> tuple[Path, ...]:
    """The lowers of a mount whose snapshots are ``chain`` now: those of its record, unless a change was cut off after that."""
    known = [Path(path) for path in record.lowers]
    if chain and chain[0] not in known and set(chain[1:]) <= set(known):
        known.insert(0, chain[0])  # one that was just taken is on top
    former = _snapshots_of(record, known)
    if set(chain) <= set(known):
        return tuple(path for path in known if path in chain or path not in former)
    # Several became one, or others: they take the place of the first.
    place = next((index for index, path in enumerate(known) if path in former), 0)
    others = [path for path in known if path not in former]
    return (*others[:place], *chain, *others[place:])


def _snapshots_of(record: Record, lowers: list[Path]) -> set[Path]:
    if record.upper is None:
        return set()
    directory = snapshots_directory(Path(record.upper))
    return {path for path in lowers if path.is_relative_to(directory)}


def _refuse_covered(stacked: MountRequest, device: int) -> None:
    """A path that leads into the mount would never be opened: who waits for that is who should answer."""
    covered = [mount.mount_point for mount in read_mountinfo() if mount.device == device]
    for path in (*stacked.lowers, *stacked.data, *filter(None, (stacked.upper, stacked.work))):
        for mountpoint in covered:
            if path.is_relative_to(mountpoint):
                raise RefusedError(str(path), f"is covered by the union itself, on {mountpoint}", f"unmount {mountpoint}")


def _lock_upper(held: Held, stacked: MountRequest) -> None:
    """The upper that a snapshot has put in the place of the first one; its lock ended with the worker that made it."""
    if stacked.upper is None or stacked.read_only:
        return
    st = stacked.upper.stat()
    if held.locked_upper != (st.st_dev, st.st_ino):
        lock(stacked.upper, _LOCK_PATIENCE)
