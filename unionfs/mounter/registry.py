"""Which unions are mounted: one directory a mount, with a state file and the control socket of its daemon.

``RUNTIME/PID-START/`` holds ``mount.json`` (a `Record`) and ``control`` (see `unionfs.mounter.control`); RUNTIME is
``/run/unionfs`` for root, ``$XDG_RUNTIME_DIR/unionfs`` for others.  The daemon makes its directory before it mounts and removes
it when it ends; the directory of a killed one stays until a command finds nothing mounted there any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from unionfs.linux.capabilities import in_initial_user_namespace
from unionfs.linux.mountinfo import Mount, read_mountinfo
from unionfs.mounter.errors import MounterError
from unionfs.mounter.field_types import check_types
from unionfs.mounter.processes import is_running, start_time

_log = logging.getLogger("unionfs.mounter")

FSTYPE = "fuse.unionfs"
"""The type of our mounts in the table of mounts."""

_STATE_FILE = "mount.json"
CONTROL_SOCKET = "control"


@dataclass(frozen=True)
class Record:
    """What is known of a mount.  Paths are absolute; ``lowers[0]`` is on top; ``device`` is the ``st_dev`` of the mount.

    ``start_time`` is the daemon's, in clock ticks since boot; ``mounted_at`` in seconds since the epoch; ``namespace`` names the
    daemon's mount namespace (the text of ``/proc/PID/ns/mnt``); ``own_work`` says that the user named no work directory; ``data``
    are the data-only layers; ``layer_changes`` counts the changes of ``lowers`` since the mount; so many of these as
    ``snapshots`` says are snapshots of the upper.

    ``worker`` is the process that serves it (0: the daemon itself); ``restarts`` says how many there were before it, ``last_end``
    what became of the last one (None: there was none), ``takeover_ms`` how long it took this one until it could go on,
    ``lost_nodes`` how many files in use could not be found again by then; ``failure`` why nobody serves it any more.
    """

    mountpoint: str
    pid: int
    start_time: int
    device: int
    namespace: str
    lowers: list[str]
    upper: str | None
    work: str | None
    own_work: bool
    read_only: bool
    transport: str
    data_path: str
    source: str
    log: str | None
    mounted_at: float
    data: list[str] = dataclasses.field(default_factory=list)
    layer_changes: int = 0
    snapshots: int = 0
    worker: int = 0
    restarts: int = 0
    last_end: str | None = None
    takeover_ms: float = 0.0
    lost_nodes: int = 0
    failure: str | None = None

    def shown(self) -> dict[str, Any]:
        """As commands print it as JSON: all fields, with what is of the worker together (``pid``, ``restarts``, ``last_end``,
        ``takeover_ms``)."""
        fields = dataclasses.asdict(self)
        of_worker = {name: fields.pop(name) for name in ("restarts", "last_end", "takeover_ms")}
        return {**fields, "worker": {"pid": self.worker or self.pid, **of_worker}}


class State(Enum):
    """How a mount is."""

    MOUNTED = "mounted"
    DETACHED = "detached"  # unmounted lazily; the last user is not gone yet
    ELSEWHERE = "elsewhere"  # mounted in another mount namespace
    DEAD = "dead"  # the mount is there, its daemon is not
    GONE = "gone"  # neither: a killed daemon's state file


@dataclass(frozen=True)
class RegisteredMount:
    """A record, where it lies, and how the mount is."""

    record: Record
    directory: Path
    state: State

    @property
    def remedy(self) -> str | None:
        """What to do about a mount that is not as it should be."""
        if self.state is State.DEAD:
            return f"unionfs umount {self.record.mountpoint}"
        return None


def runtime_directory() -> Path:
    """Where the mounts of this user are registered: ``$UNIONFS_RUNTIME_DIR``, or see the module.

    Raises:
        MounterError: a user without ``$XDG_RUNTIME_DIR``.
    """
    if directory := os.environ.get("UNIONFS_RUNTIME_DIR"):
        return Path(os.path.abspath(directory))
    # Root of a user namespace (rootless podman) has no right to the machine's /run.
    if os.geteuid() == 0 and in_initial_user_namespace():
        return Path("/run/unionfs")
    if directory := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(os.path.abspath(directory), "unionfs")
    raise MounterError("XDG_RUNTIME_DIR", "is not set, so there is no place to register mounts", "set it, or UNIONFS_RUNTIME_DIR")


def mount_namespace() -> str:
    """The mount namespace of this process, as ``/proc/self/ns/mnt`` names it."""
    return os.readlink("/proc/self/ns/mnt")


class Registration:
    """The entry of this process's mount."""

    def __init__(self) -> None:
        """Make the directory.

        Raises:
            MounterError: the runtime directory is not to be trusted, or not known.
            OSError: it cannot be made.
        """
        pid = os.getpid()
        started = start_time(pid)
        assert started is not None  # we are running
        self.pid = pid
        self.start_time = started
        base = runtime_directory()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(base)
        self.directory = base / f"{pid}-{started}"
        self.directory.mkdir(mode=0o700)
        self._is_kept = False

    def publish(self, record: Record) -> None:
        """Write the state file, or replace it: from now on commands see the mount so."""
        # The device number of a mount that is gone is used again.  What a killed daemon left would seem to be about this mount.
        for directory in _entries(self.directory.parent):
            other = _read_record(directory)
            if other and other.device == record.device and not is_running(other.pid, other.start_time):
                _remove(directory)
        temporary = self.directory / f"{_STATE_FILE}.new"
        temporary.write_text(json.dumps(dataclasses.asdict(record), indent=1))
        temporary.rename(self.directory / _STATE_FILE)

    def read(self) -> Record:
        """What was published last.

        Raises:
            MounterError: somebody has damaged it.
        """
        record = _read_record(self.directory)
        if record is None:
            raise MounterError(str(self.directory / _STATE_FILE), "cannot be read", "unmount the union, and mount it anew")
        return record

    def keep(self, failure: str, restarts: int, last_end: str | None) -> None:
        """The mount stays, though nobody serves it, and so does its entry, which says why."""
        self.publish(dataclasses.replace(self.read(), failure=failure, worker=0, restarts=restarts, last_end=last_end))
        self._is_kept = True

    def remove(self) -> None:
        """Take the entry away; best effort, since the next command finds it `State.GONE`."""
        if not self._is_kept:
            _remove(self.directory)


def _check_private(directory: Path) -> None:
    # A directory that others can write to (a shared $UNIONFS_RUNTIME_DIR) would let them stand in for the daemon; a link that
    # they have made to a directory of ours would have us take away what is in it.
    link, status = directory.lstat(), directory.stat()
    is_safe_link = not stat.S_ISLNK(link.st_mode) or link.st_uid in (0, os.geteuid())
    if not is_safe_link or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise MounterError(str(directory), "others could change the registry of mounts", "make it yours alone: chmod 0700, chown")


def registered_mounts() -> list[RegisteredMount]:
    """All mounts of this user, oldest first.  What is left of those that are gone is removed on the way.

    Raises:
        MounterError: no runtime directory is known, or others can write to it.
        OSError: it cannot be read.
    """
    base = runtime_directory()
    with contextlib.suppress(FileNotFoundError):
        _check_private(base)
    mounts = read_mountinfo()
    found = []
    for directory in _entries(base):
        record = _read_record(directory)
        state = _state(record, mounts) if record else _state_without_record(directory)
        if state is State.GONE:
            _remove(directory)
        elif record and state:
            found.append(RegisteredMount(record, directory, state))
    return sorted(found, key=lambda mount: mount.record.mounted_at)


def device_of(mountpoint: Path) -> int:
    """The ``st_dev`` of what is mounted on ``mountpoint``.

    From mountinfo, for the daemon: stat(2) of its own mount point would be a request to itself.
    """
    return next(mount.device for mount in reversed(read_mountinfo()) if mount.mount_point == mountpoint)


def _entries(base: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(base.iterdir())


_ENTRY_NAME = re.compile(r"(\d+)-(\d+)")


def _state_without_record(directory: Path) -> State | None:
    """None: nothing to judge it by.  A daemon that is just starting has not published its record yet; one killed then never
    will."""
    name = _ENTRY_NAME.fullmatch(directory.name)
    return State.GONE if name and not is_running(int(name[1]), int(name[2])) else None


def _read_record(directory: Path) -> Record | None:
    try:
        record = Record(**json.loads((directory / _STATE_FILE).read_text()))
        check_types(record)
    except (FileNotFoundError, NotADirectoryError):
        return None  # a mount that is being made, or one that is just going away
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # Written by another version, or damaged: nothing that a command on another mount should fail for.
        _log.warning("%s: not a state file of this version: %s", directory, error)
        return None
    return record


def _state(record: Record, mounts: list[Mount]) -> State:
    # The device number tells the mount from another one made on the same directory since.
    mountpoint = Path(record.mountpoint)
    is_mounted = any(
        mount.mount_point == mountpoint and mount.device == record.device and mount.fstype == FSTYPE for mount in mounts
    )
    if is_running(record.pid, record.start_time):
        if is_mounted:
            return State.MOUNTED
        return State.DETACHED if record.namespace == mount_namespace() else State.ELSEWHERE
    return State.DEAD if is_mounted else State.GONE


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass  # another command was faster
    except OSError as error:
        _log.warning("%s: could not be removed: %s", directory, error)
