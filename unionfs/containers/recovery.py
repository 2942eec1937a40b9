"""What is done where a monitor was killed: its container ends, and what it had made is undone.  Done by ``ps``, ``rm`` and
``gc``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unionfs.containers import teardown
from unionfs.containers.container import DIRECTORY, Container, Containers
from unionfs.containers.runtime import Runtime, find_runtime
from unionfs.containers.signal_pause import let_go_on
from unionfs.containers.status import read_status
from unionfs.containers.volumes import is_gone
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.errors import MounterError
from unionfs.mounter.processes import is_running, start_time, wait_for_end
from unionfs.store.errors import InUseError, NotFoundError, StoreError
from unionfs.store.leases import collecting
from unionfs.store.snapshotter import SnapshotInfo
from unionfs.store.store import Store
from unionfs.volumes import open_volumes
from unionfs.volumes.upkeep import recover as recover_volumes

_CONTAINER = "unionfs.container"
_MAKER = "unionfs.maker"
_PAUSED = "paused"

KILLED = 137
"""Exit status of a container whose own nobody has learnt: it was killed along with, or after, its monitor."""

_END_TIMEOUT = 30.0


def snapshot_key(container_id: str) -> str:
    """The key of a container's writable layer."""
    return f"container-{container_id}"


def container_labels(container_id: str) -> dict[str, str]:
    """The labels of a container's writable layer: whose it is, and that this process is making it."""
    return {_CONTAINER: container_id, _MAKER: _this_process()}


def _this_process() -> str:
    return f"{os.getpid()} {start_time(os.getpid())}"


def recover(store: Store, containers: Containers) -> list[Container]:
    """Clean up after all killed monitors; the containers that were ended or removed so.

    Raises:
        StoreError: something refused to go; the error names it.
    """
    _unmount_forgotten(store)
    ended = []
    for container in containers.all():
        if container.has_monitor:
            resume_forgotten(store.root, container)
        elif _needs_cleaning(container):
            with locked(store.root, container) as is_mine:
                if is_mine:
                    _clean(store, containers, container)
                    ended.append(container)
    _remove_orphans(store, containers)
    recover_volumes(open_volumes(store), is_gone(containers))
    return ended


@contextlib.contextmanager
def marked_paused(container: Container) -> Iterator[int]:
    """Note that this process is about to pause a container: a descriptor of the note, for the runtime to have too.

    The note is locked (flock(2)) as long as anybody has it: a runtime whose caller was killed may pause the container yet.

    Raises:
        OSError: it cannot be noted.
    """
    fd = os.open(container.directory / _PAUSED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, _this_process().encode())
        yield fd
    finally:
        os.close(fd)


def _wait_for_runtime(container: Container) -> None:
    with contextlib.suppress(FileNotFoundError), (container.directory / _PAUSED).open("rb") as note:
        fcntl.flock(note, fcntl.LOCK_EX)


def unmark_paused(container: Container) -> None:
    """It is no longer paused (perhaps no longer there)."""
    with contextlib.suppress(FileNotFoundError):
        (container.directory / _PAUSED).unlink()


def resume_forgotten(root: Path, container: Container) -> None:
    """Let a container go on whose pause has nobody any more who would end it: nothing else ever would, a signal least of all.

    Raises:
        RuntimeFailedError: the runtime refused.
    """
    if not _is_pause_forgotten(container):
        return
    with locked(root, container) as is_mine:
        # Somebody else may have been quicker.
        if is_mine and _is_pause_forgotten(container):
            _wait_for_runtime(container)
            end_pause(container, find_runtime(container.options.runtime))


def end_pause(container: Container, runtime: Runtime) -> None:
    """Let a container go on that may be paused, or may be gone.

    Raises:
        RuntimeFailedError: the runtime refused; the note stays, for the next one who tries.
    """
    if container.directory.exists():
        if runtime.is_paused(container.directory, container.id):
            runtime.resume(container.directory, container.id)
        let_go_on(container)
        unmark_paused(container)


def _is_pause_forgotten(container: Container) -> bool:
    try:
        maker = (container.directory / _PAUSED).read_text()
    except FileNotFoundError:
        return False
    return not _is_made_now(maker)


def _needs_cleaning(container: Container) -> bool:
    if container.options.removes or teardown.is_mounted(container.rootfs):
        return True
    return container.status().state != "exited"


def _clean(store: Store, containers: Containers, container: Container) -> None:
    if not any(found.id == container.id for found in containers.all()):
        return  # somebody else was quicker
    _kill(container)
    teardown.undo(store, container, find_runtime(container.options.runtime), patient=False)
    if container.options.removes:
        teardown.remove(store, containers, container, with_volumes=True)
        return
    container.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    teardown.note_end(container, KILLED, "its monitor was killed")


def _kill(container: Container) -> None:
    """Kill its first process, which takes all others of its pid namespace along."""
    status = read_status(container.directory)
    if status.pid is None or status.pid_started is None:
        return
    try:
        pidfd = os.pidfd_open(status.pid)
    except ProcessLookupError:
        return
    try:
        if is_running(status.pid, status.pid_started):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if not wait_for_end(status.pid, status.pid_started, _END_TIMEOUT):
                raise StoreError(
                    container.name, f"process {status.pid} does not end", "see what it waits for (cat /proc/PID/stack)"
                )
    finally:
        os.close(pidfd)


def _remove_orphans(store: Store, containers: Containers) -> None:
    """Remove writable layers and directories whose container was never recorded, or is no longer."""
    with collecting(store.root) as is_quiet:
        if not is_quiet:
            return  # somebody is just making one; the next one who cleans up finds what is left
        # The records last: who makes a container writes that before the directory, and lives until then, so what is here without
        # one never gets one.
        layers = {info.name: info.labels[_CONTAINER] for info in store.snapshots.walk() if _is_left_alone(info)}
        directories = _directories(store.root)
        known = {container.id for container in containers.all()}
        for key, container_id in layers.items():
            if container_id not in known:
                # Whoever removes the container may be quicker.
                with contextlib.suppress(NotFoundError):
                    store.snapshots.unmount(key)
                    store.snapshots.remove(key)
        for directory in directories:
            if directory.name not in known and not teardown.is_mounted(directory / "rootfs"):
                teardown.remove_files(store.root, directory)


def _is_left_alone(snapshot: SnapshotInfo) -> bool:
    """Whether it is a container's writable layer whose maker is gone."""
    return _CONTAINER in snapshot.labels and not _is_made_now(snapshot.labels.get(_MAKER, ""))


@contextlib.contextmanager
def mounted_aside(store: Store, key: str) -> Iterator[Path]:
    """A snapshot, mounted for a moment where nobody looks."""
    staging = store.root / "staging"
    staging.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{_this_process().replace(' ', '-')}-mount-", dir=staging) as name:
        place = Path(name)
        store.snapshots.mount(key, place)
        try:
            yield place
        finally:
            store.snapshots.unmount(place)


def _unmount_forgotten(store: Store) -> None:
    """Undo mounts of `mounted_aside` whose maker was killed; the empty directories go with `gc`."""
    staging = store.root / "staging"
    for mount in read_mountinfo():
        place = mount.mount_point
        if place.parent == staging and "-mount-" in place.name and not _is_made_now(" ".join(place.name.split("-")[:2])):
            _unmount(store, place)


def _unmount(store: Store, place: Path) -> None:
    try:
        store.snapshots.unmount(place)
    except MounterError:
        if teardown.is_mounted(place):  # or somebody else was quicker
            raise


def _is_made_now(maker: str) -> bool:
    pid, _, started = maker.partition(" ")
    return pid.isdigit() and started.isdigit() and is_running(int(pid), int(started))


def _directories(root: Path) -> list[Path]:
    try:
        return list((root / DIRECTORY).iterdir())
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def locked(root: Path, container: Container) -> Iterator[bool]:
    """Alone with a container that has no monitor; False: another process is at work on it."""
    directory = root / "locks"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"container-{container.id}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        is_mine = _lock(fd) and _is_still(path, fd)
        yield is_mine
        if is_mine:
            path.unlink()
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    # A lock of fcntl(2) belongs to the process: with flock(2) the daemon of a mount that is made meanwhile would have it too.
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
        return False
    return True


def _is_still(path: Path, fd: int) -> bool:
    """False: whoever had the lock has removed its file meanwhile."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def alone_with(root: Path, container: Container) -> Iterator[None]:
    """As `locked`.

    Raises:
        InUseError: another process is at work on it.
    """
    with locked(root, container) as is_mine:
        if not is_mine:
            raise InUseError(container.name, "another command is at work on it", "wait for that, then try again")
        yield
