"""Whether asking a layer's filesystem can take long: never where it is all in memory, always where a server has to answer."""

from __future__ import annotations

from unionfs.linux.mountinfo import read_mountinfo
from unionfs.overlay.inode import Inode

_MEMORY = frozenset(("tmpfs", "ramfs"))
"""Those that refuse RWF_NOWAIT (preadv2(2)) although they never wait for anybody."""
_SERVED = ("fuse", "nfs", "9p", "cifs", "smb3", "ceph", "virtiofs")
"""What the types of filesystems begin with that ask a server, even for attributes."""


class MemoryFilesystems:
    """Remembers the answers.  Should a device number be another filesystem's after a change of layers, reads are as right as
    before, only slower, or in the way of others."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def holds(self, inode: Inode) -> bool:
        """Whether the data of ``inode`` is on a filesystem in memory; no, when in doubt.

        Raises:
            OSError: the table of mounts cannot be read.
        """
        # The data of a metacopy file is in another layer than the file.
        return inode.data is None and self._type(inode) in _MEMORY

    def has_server(self, inode: Inode) -> bool:
        """Whether the filesystem of ``inode`` asks a server.  Raises: see `holds`."""
        return self._type(inode).startswith(_SERVED)

    def _type(self, inode: Inode) -> str:
        device = inode.place.layer.device
        known = self._known.get(device)
        if known is None:
            # Not fstatfs(2), which would ask the server too, and wait for it.
            found = (mount.fstype for mount in read_mountinfo() if mount.device == device)
            known = self._known[device] = next(found, "")
        return known
