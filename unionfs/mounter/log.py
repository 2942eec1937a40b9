"""Where a daemon tells what it cannot tell on a terminal."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from unionfs.mounter.errors import MounterError

_SPECIAL = re.compile(r"[^\w.]")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def default_log(mountpoint: Path) -> Path:
    """The log of the mount on ``mountpoint``: ``/var/log/unionfs`` for root, ``$XDG_STATE_HOME/unionfs`` (``~/.local/state``)
    for others, or the directory ``$UNIONFS_LOG_DIR``; named after the mount point as systemd-escape(1) does
    (``mnt-merged.log``).

    Raises:
        MounterError: none of them is known.
    """
    return Path(os.path.abspath(_log_directory())) / f"{_escaped(mountpoint)}.log"


def _log_directory() -> Path:
    if directory := os.environ.get("UNIONFS_LOG_DIR"):
        return Path(directory)
    if os.geteuid() == 0 and os.access("/var/log", os.W_OK):
        return Path("/var/log/unionfs")
    return Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local/state", "unionfs")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no $HOME, and a user without a line in /etc/passwd
        raise MounterError("HOME", "is not set, so there is no place for the log", "set it, or UNIONFS_LOG_DIR") from None


def _escaped(path: Path) -> str:
    name = "-".join(_SPECIAL.sub(lambda match: f"\\x{ord(match[0]):02x}", part) for part in path.parts[1:]) or "-"
    # A container engine's mount point alone may be longer than a file name can be: then its end, which is what differs.
    return name if len(os.fsencode(name)) <= 200 else name[-100:]


def log_to_file(path: Path, level: int = logging.WARNING) -> None:
    """Send what is logged in this process to ``path``, which is made when there is something to write: no trouble, no file."""
    # The directory is made now: later, in the middle of an error, is no time to fail.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.FileHandler(path, delay=True)
    _install(handler, level)


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Send what is logged in this process to standard error (a mount in the foreground)."""
    _install(logging.StreamHandler(), level)


def _install(handler: logging.Handler, level: int) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
