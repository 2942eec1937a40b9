"""Who is at the other end of a connection, and which uses of a volume are over although nobody has asked for their end.

Engines differ.  dockerd is one process, and takes a new ID for each start of a container; killed, it never unmounts what it had
mounted.  podman's commands end at once and leave their containers running, all under one ID.  So that the process which asked for
a mount has ended means nothing by itself, and nothing is ever unmounted for that alone.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from unionfs.linux.mountinfo import read_mountinfo
from unionfs.linux.namespaces import mount_namespace
from unionfs.mounter.processes import is_running, start_time
from unionfs.store.errors import StoreError
from unionfs.volumes import Peer, VolumeMount
from unionfs.volumes.elsewhere import is_mounted_elsewhere

USER = "plugin:"
"""What the names of engines' uses begin with; the ID that the engine gave follows."""

PODMAN_ID = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2"
"""What every podman mounts under (podman, libpod/volume_internal_linux.go: the SHA-256 of a word).  podman counts by itself, and
unmounts before it removes."""

_UCRED = struct.Struct("iII")  # unix(7): pid, uid, gid

_UNKNOWN = 0
"""The start of a process that has ended already: no process that runs began with the system."""


def peer_of(connection: socket.socket) -> Peer | None:
    """The process that connected; None: it is in a PID namespace that we cannot see into."""
    pid, _, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, start_time(pid) or _UNKNOWN) if pid else None


def is_over(use: VolumeMount, asking: Peer | None, data: Path | None) -> bool:
    """Whether ``use`` has ended, seen that the engine ``asking`` wants the volume removed, whose data is at ``data`` (None: it is
    not mounted).

    An engine refuses by itself to remove what its containers use, so what it has mounted under other IDs are unmounts that were
    lost.  So are those of an engine that has ended.  But neither where a container, or anybody, has the data mounted: it may be
    one that outlived its engine (docker's live-restore), or one of another engine.
    """
    if not use.user.startswith(USER) or use.user == USER + PODMAN_ID or use.peer is None:
        return False
    has_ended = not is_running(use.peer.pid, use.peer.started)
    return (has_ended or use.peer == asking) and (data is None or not is_mounted_elsewhere(data))


def check_sees(peer: Peer | None, data: Path) -> None:
    """Refuse to hand a volume that is a mount to an engine which cannot see that: its container would write beneath.

    Raises:
        StoreError: the mount is not there for ``peer``.
    """
    here = [each for each in read_mountinfo() if each.mount_point == data]
    if peer is None or not here:
        return
    try:
        if mount_namespace(peer.pid) == mount_namespace():
            return
        there = read_mountinfo(Path(f"/proc/{peer.pid}/mountinfo"))
    except OSError:
        return  # it has ended, and hears no answer
    if (here[-1].device, data) not in [(each.device, each.mount_point) for each in there]:
        raise StoreError(
            os.fspath(data),
            f"process {peer.pid}, which asks for the volume, does not see what is mounted there",
            "run the plugin in the mount namespace of the engine: no PrivateMounts=, PrivateTmp=, Protect…= in its unit",
        )
