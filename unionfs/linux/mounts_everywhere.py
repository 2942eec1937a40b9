"""The mounts of all mount namespaces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.mountinfo import Mount, read_mountinfo
from unionfs.linux.namespaces import mount_namespace


class Namespace(NamedTuple):
    """A mount namespace: a process in it, whether it is that of this process, its mounts."""

    process: int
    is_own: bool
    mounts: list[Mount]


def mount_namespaces() -> Iterator[Namespace]:
    """All that may be looked at, first that of this process."""
    own = mount_namespace()
    yield Namespace(os.getpid(), True, read_mountinfo())
    seen = {own}
    for name in os.listdir("/proc"):
        # A process may end at any moment, and another user's may not be looked at: neither tells us anything.
        with contextlib.suppress(OSError):
            if name.isdigit() and (namespace := mount_namespace(int(name))) not in seen:
                mounts = read_mountinfo(Path(f"/proc/{name}/mountinfo"))
                seen.add(namespace)
                yield Namespace(int(name), False, mounts)
