"""Putting volumes in order again, and telling what is not: for ``volume prune``, ``gc`` and ``doctor``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from unionfs.mounter.errors import MounterError
from unionfs.mounter.finding import Finding
from unionfs.store.drivers.disk_usage import disk_usage
from unionfs.store.errors import InUseError, NotFoundError
from unionfs.volumes.filters import Filters
from unionfs.volumes.manager import Pruned, VolumeManager
from unionfs.volumes.stale import stale_mounts
from unionfs.volumes.volume import Filling, Volume, VolumeMount

_log = logging.getLogger("unionfs.volumes")

IsGone = Callable[[str], bool]
"""Whether a user (``container:ID``) is known to use nothing any more."""


def recover(volumes: VolumeManager, is_gone: IsGone) -> None:
    """Undo the mounts of users that are gone, and those that nobody uses: what killed processes have left.

    What refuses to go is logged, and tried again the next time.
    """
    impatient = volumes.impatient()
    for user in sorted({mount.user for _, mount in volumes.all_mounts() if is_gone(mount.user)}):
        _tried(user, functools.partial(impatient.release, user))
    for volume in volumes.all():
        _tried(volume.name, functools.partial(volumes.unmount_idle, volume.name))


def _tried(thing: str, action: Callable[[], None]) -> None:
    try:
        action()
    except NotFoundError:
        return  # somebody has removed it meanwhile
    except MounterError as error:
        _log.warning("%s: could not be undone: %s", thing, error)


def prune(volumes: VolumeManager, filters: Filters, *, named_too: bool = False) -> Pruned:
    """Remove the volumes that nobody uses: anonymous ones, or all; those of foreign plugins never, whose data is elsewhere."""
    removed = []
    freed = 0
    for volume in volumes.all(filters):
        if not (volume.anonymous or named_too) or not volumes.driver_is_ours(volume) or volumes.users(volume.name):
            continue
        size = disk_usage(volumes.directory(volume.name)).size
        try:
            volumes.remove(volume.name)
        except (InUseError, NotFoundError):
            continue  # somebody was faster
        removed.append(volume.name)
        freed += size
    return Pruned(tuple(removed), freed)


def findings(volumes: VolumeManager) -> list[tuple[str, Finding]]:
    """What ``unionfs doctor`` tells of the volumes of a store: one finding for each that is not in order, or a good one."""
    found: list[tuple[str, Finding]] = []
    for volume in volumes.all():
        found += [(f"volume {volume.name}", finding) for finding in _findings_of(volumes, volume)]
    left_over = volumes.left_over()
    if left_over:
        found.append(("volumes", Finding(False, f"directories of no volume: {', '.join(left_over)}", "unionfs gc removes them")))
    return found or [("volumes", Finding(True, f"{len(volumes.all())} in order"))]


def _findings_of(volumes: VolumeManager, volume: Volume) -> list[Finding]:
    name = volume.name
    if not volumes.directory(name).is_dir():
        return [Finding(False, "its directory is gone", f"restore it from a backup, or unionfs volume rm {name}")]
    found = [_stale(name, mount) for mount in stale_mounts(volumes, name)]
    if volume.filling is Filling.COPYING:
        found.append(Finding(False, "it was being filled from an image", "the next container that uses it begins anew"))
    return found


def _stale(name: str, mount: VolumeMount) -> Finding:
    return Finding(
        False,
        f"mounted for {mount.user}, whose engine has ended",
        f"if its container is gone too: unionfs volume release {name} {mount.user}",
    )
