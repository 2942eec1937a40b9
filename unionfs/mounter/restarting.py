"""Asking a mount to go on with the code that is installed now."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path
from typing import NamedTuple

from unionfs.mounter.control import ask
from unionfs.mounter.errors import DaemonError, RefusedError
from unionfs.mounter.lookup import living_mount

_TRY_TIMEOUT = 60.0
_PATIENCE = 60.0
"""Seconds: for the new code to be tried; for the new worker to answer."""
_LOOK_AGAIN = 0.02


class Restarted(NamedTuple):
    """The process ids of the worker before and now, and how long the new one took until it could go on, in milliseconds."""

    old: int
    new: int
    takeover_ms: float


def restart(merged: Path) -> Restarted:
    """Replace the worker of the union on ``merged``; programs that use it notice a pause.

    Raises:
        NotMountedError: no union is mounted there.
        RefusedError: it has no worker that could be replaced, or the new code cannot go on with it.
        DaemonError: no new worker answers.
    """
    mount = living_mount(merged)
    if mount.record.transport == "pyfuse3":
        raise RefusedError(str(merged), "transport pyfuse3 cannot be taken over", "mount it anew with transport=direct")
    try:
        old = ask(mount.directory, "restart", _TRY_TIMEOUT)["worker"]
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise RefusedError(str(merged), str(error.strerror), "mend the installation; the mount goes on as it is") from None
        raise
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(DaemonError):  # the old one is going, the new one has not come yet
            status = ask(mount.directory, "status")
            if status["worker"]["pid"] != old:
                return Restarted(old, status["worker"]["pid"], status["worker"]["takeover_ms"])
        time.sleep(_LOOK_AGAIN)
    raise DaemonError(str(merged), f"no new worker answers after {_PATIENCE:g} s", f"see its log {mount.record.log}")
