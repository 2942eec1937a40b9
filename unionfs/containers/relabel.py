"""``z`` and ``Z``: SELinux labels of what is mounted in a container.  Where SELinux is off, they mean nothing, as for docker."""

from __future__ import annotations

import os
from pathlib import Path

_ENFORCE = Path("/sys/fs/selinux/enforce")
_XATTR = "security.selinux"
_LABEL = b"system_u:object_r:container_file_t:s0\0"


def relabel(source: Path) -> None:
    """Give ``source`` and all in it the label that containers may use: the same for ``z`` and ``Z``, because our containers have
    no categories of their own.

    Raises:
        OSError: as setxattr(2).
    """
    if not _ENFORCE.exists():
        return
    os.setxattr(source, _XATTR, _LABEL, follow_symlinks=False)
    for directory, names, files in os.walk(source):
        for name in (*names, *files):
            os.setxattr(os.path.join(directory, name), _XATTR, _LABEL, follow_symlinks=False)
