"""Users of volumes that are gone and have not said so.

That the process which asked for a mount has ended means nothing by itself: containers may outlive their engine, those of podman
always do.  So nobody counts as gone as long as anybody has the data mounted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from unionfs.mounter.processes import is_running
from unionfs.volumes.drivers import AwayError
from unionfs.volumes.elsewhere import is_mounted_elsewhere
from unionfs.volumes.volume import VolumeMount

if TYPE_CHECKING:
    from unionfs.volumes.manager import VolumeManager

_log = logging.getLogger("unionfs.volumes")


def stale_mounts(volumes: VolumeManager, name: str) -> list[VolumeMount]:
    """The mounts of a volume by foreign engines that have ended, unless somebody has the data mounted still.

    Raises:
        NotFoundError: there is no such volume.
    """
    ended = [mount for mount in volumes.mounts(name) if mount.peer and not is_running(mount.peer.pid, mount.peer.started)]
    data = volumes.mountpoint(volumes.get(name)) if ended else None
    return [] if data is not None and is_mounted_elsewhere(data) else ended


def release_stale(volumes: VolumeManager, name: str) -> None:
    """Undo `stale_mounts`, and those of containers that are no longer recorded; of a plugin that is away they are forgotten here.

    Raises:
        As `VolumeManager.release_one`, but for a plugin that is away.
    """
    naming = {f"container:{container_id}" for container_id in volumes.naming(name)}
    forgotten = [mount for mount in volumes.mounts(name) if mount.user.startswith("container:") and mount.user not in naming]
    for mount in (*stale_mounts(volumes, name), *forgotten):
        try:
            volumes.impatient().release_one(name, mount.user)
        except AwayError as error:
            _log.warning("%s: perhaps still mounted for %s: %s", name, mount.user, error)
            volumes.forget_mounts(name, mount.user)
