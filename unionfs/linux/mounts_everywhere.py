"""The mounts of all mount namespaces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from unionfs.linux.mountinfo import Mount, read_mountinfo
from unionfs.linux.namespaces import mount_namespace


def mounts_everywhere() -> Iterator[tuple[int, list[Mount]]]:
    """For each mount namespace that may be looked at: a process in it, and its mounts."""
    seen = set()
    for name in os.listdir("/proc"):
        # A process may end at any moment, and another user's may not be looked at: neither tells us anything.
        with contextlib.suppress(OSError):
            if name.isdigit() and (namespace := mount_namespace(int(name))) not in seen:
                mounts = read_mountinfo(Path(f"/proc/{name}/mountinfo"))
                seen.add(namespace)
                yield int(name), mounts
