"""Undoing what was made for a container, in the order in which one thing needs the other.  Every step can be done again."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

from unionfs.containers import volumes
from unionfs.containers.cgroups import remove_cgroups
from unionfs.containers.container import Container, Containers
from unionfs.containers.runtime import Runtime
from unionfs.containers.status import Status, read_status, write_status
from unionfs.linux.mount import MNT_DETACH, UMOUNT_NOFOLLOW, umount
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.errors import MounterError
from unionfs.store.errors import InUseError, NotFoundError
from unionfs.store.staging import discard
from unionfs.store.store import Store
from unionfs.volumes import open_volumes

_log = logging.getLogger("unionfs.containers")


def is_mounted(path: Path) -> bool:
    """Whether something is mounted on ``path``; asks nobody who may hang."""
    return any(mount.mount_point == path for mount in read_mountinfo())


def undo(store: Store, container: Container, runtime: Runtime, *, patient: bool = True) -> None:
    """Everything but the container's record, its files and its writable layer: processes, cgroups, mounts.  Unless ``patient``,
    a foreign volume plugin that does not answer is not waited for.

    Raises:
        StoreError: the runtime refused.
    """
    if container.directory.exists():
        runtime.delete(container.directory, container.id)
    remove_cgroups(container.id)
    unmount(store, container)
    try:
        manager = open_volumes(store)
        volumes.undo(manager if patient else manager.impatient(), container.id, container.directory)
    except MounterError as error:
        _log.warning("%s; it is tried again", error)


def unmount(store: Store, container: Container) -> None:
    """Unmount its root filesystem; where somebody works in it from outside, take it away from its place at least."""
    if not is_mounted(container.rootfs):
        return
    try:
        store.snapshots.unmount(container.rootfs)
    except (MounterError, OSError) as error:
        if not is_mounted(container.rootfs):  # only its daemon takes its time
            _log.warning("%s", error)
            return
        _log.warning("%s: %s; it is detached", container.rootfs, error)
        umount(os.fsencode(container.rootfs), MNT_DETACH | UMOUNT_NOFOLLOW)


def note_end(container: Container, exit_code: int, error: str | None = None) -> Status:
    """Record how it ended, unless that is known already.

    Raises:
        OSError: the file cannot be written.
    """
    before = read_status(container.directory)
    if before.state == "exited":
        return before
    after = replace(before, state="exited", finished=time.time(), exit_code=exit_code, error=error)
    write_status(container.directory, after)
    return after


def remove(store: Store, containers: Containers, container: Container, *, with_volumes: bool) -> None:
    """Remove the record, the writable layer and the files of a container that has ended and is not mounted; ``with_volumes``: and
    its anonymous volumes, unless others use them.

    Raises:
        InUseError: it is mounted.
    """
    if is_mounted(container.rootfs):
        raise InUseError(container.name, "its root filesystem is mounted", f"unmount {container.rootfs}")
    remove_cgroups(container.id)
    manager = open_volumes(store)
    anonymous = [volume.name for volume in manager.named_by(container.id) if volume.anonymous]
    containers.forget(container)
    if with_volumes:
        volumes.remove_unused(manager, anonymous)
    with contextlib.suppress(NotFoundError):
        store.snapshots.remove(container.snapshot)
    remove_files(store.root, container.directory)


def remove_files(root: Path, directory: Path) -> None:
    """Remove the files of a container: out of sight first, as a whole.  They may be gone already.

    Raises:
        OSError: something cannot be removed; it is collected later.
    """
    volumes.unmount_below(directory)
    discard(root, directory)
