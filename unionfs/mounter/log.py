"""Where a daemon tells what it cannot tell on a terminal."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from io import TextIOWrapper
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
    """Send what is logged in this process to ``path``, which is made when there is something to write: no trouble, no file.

    Raises:
        MounterError: somebody else has put something there, or it is no file.
        OSError: its directory cannot be made.
    """
    # The directory is made now: later, in the middle of an error, is no time to fail.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.close(_open(path, os.O_WRONLY))
    _install(_PrivateFile(path, delay=True), level)


class _PrivateFile(logging.FileHandler):
    """A log that nobody else reads, and that is never written through what somebody else has put in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """As of the base class; what cannot be logged harms nobody, also where that shows when the file is opened."""
        try:
            super().emit(record)
        except (OSError, MounterError):
            self.handleError(record)

    def _open(self) -> TextIOWrapper:
        return open(_open(Path(self.baseFilename), os.O_WRONLY | os.O_CREAT), "a", encoding=self.encoding)


def _open(path: Path, flags: int) -> int:
    """A descriptor to append by.  What fs.protected_symlinks, _regular and _fifos are for (sysctl-fs(5)), whatever they are set
    to: in a directory where others can make names, the log is a regular file of ours and no link."""
    is_shared = _is_shared(path.parent)
    try:
        # O_NONBLOCK: to open a fifo would wait for a reader.
        fd = os.open(path, flags | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if is_shared else 0), 0o600)
    except OSError as error:
        if is_shared and error.errno in (errno.ELOOP, errno.ENXIO):
            raise _trap(path) from error
        raise
    status = os.fstat(fd)
    if is_shared and not (stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1):
        os.close(fd)
        raise _trap(path)
    os.set_blocking(fd, True)
    return fd


def _is_shared(directory: Path) -> bool:
    status = directory.stat()
    return status.st_uid not in (0, os.geteuid()) or bool(stat.S_IMODE(status.st_mode) & 0o022)


def _trap(path: Path) -> MounterError:
    return MounterError(
        str(path), "others can write to its directory, and it is no log of ours", "choose a directory of your own (log=)"
    )


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
