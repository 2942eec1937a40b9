"""The socket on which engines find the plugin: one that systemd has opened, or one of our own.

docker takes ``/run/docker/plugins/NAME.sock`` for a plugin called NAME.  The socket is 0600: whoever may talk to a plugin may
mount.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from unionfs.mounter.errors import MounterError, from_os_error
from unionfs.store.descriptors import opened_alone

DEFAULT_SOCKET = Path("/run/docker/plugins/unionfs.sock")

_FIRST = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START
_BACKLOG = 128
_PATIENCE = 1.0
"""Seconds to wait for a server that is busy accepting others: it is alive."""


@dataclass(frozen=True)
class _Opened:
    """What there is of a socket file: which file it is."""

    device: int
    inode: int


# -- systemd's --------------------------------------------------------------------------------------------------------


def passed_socket(environment: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that a service manager has handed to this process (sd_listen_fds(3)); None: none.

    Raises:
        MounterError: it handed over something else.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()) or environment.get("LISTEN_FDS", "0") == "0":
        return None
    if environment["LISTEN_FDS"] != "1":
        raise _not_ours(f"{environment['LISTEN_FDS']} sockets are handed over")
    try:
        passed = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise _not_ours(error.strerror or str(error)) from error
    # Without the call: the descriptor is inherited by what we execute.
    passed.set_inheritable(False)
    if passed.family != socket.AF_UNIX or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.close()
        raise _not_ours("it is no unix socket that listens")
    return passed


def _not_ours(problem: str) -> MounterError:
    return MounterError("LISTEN_FDS", problem, "use one ListenStream= with the path of a socket, and Accept=no")


# -- our own ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket at ``path``, whose file goes at the end.  One that a killed server has left is replaced.

    Raises:
        MounterError: another server listens there, the path is something else, or others could put theirs in its place.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with opened_alone(path.parent, os.O_RDONLY | os.O_DIRECTORY) as directory:
            _check_private(path.parent, os.fstat(directory))
            listener, opened = _listen(path, directory)
    except OSError as error:
        raise from_os_error(error, str(path), "choose a directory that you may write to (--socket)") from error
    try:
        yield listener
    finally:
        _remove(path, opened)
        listener.close()


def _check_private(directory: Path, status: os.stat_result) -> None:
    # Who may rename in the directory may put a plugin of his own there, and dockerd would mount what that says.
    if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
        raise MounterError(
            str(directory),
            "others could replace the socket in it",
            "give it to root alone (chown, chmod 0755), or choose another (--socket)",
        )


def _listen(path: Path, directory: int) -> tuple[socket.socket, _Opened]:
    """The lock on the directory makes looking and binding one step among servers that start at the same time."""
    fcntl.flock(directory, fcntl.LOCK_EX)
    # sun_path holds 108 bytes (unix(7)), paths more.
    address = f"/proc/self/fd/{directory}/{path.name}"
    _remove_dead(path, address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)  # bind(2) makes the file; chmod(2) afterwards would leave a moment to connect
        try:
            listener.bind(address)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        status = os.lstat(address)
    except BaseException:
        listener.close()
        raise
    return listener, _Opened(status.st_dev, status.st_ino)


def _remove_dead(path: Path, address: str) -> None:
    try:
        status = os.lstat(address)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise MounterError(str(path), "it is there, and no socket", "remove it, or choose another path (--socket)")
    if _answers(address):
        raise MounterError(str(path), "another server listens there", "end that, or choose another path (--socket)")
    os.unlink(address)


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            return False
        except (TimeoutError, BlockingIOError):
            return True
    return True


def _remove(path: Path, opened: _Opened) -> None:
    """Under the lock of the directory, and only if it is ours still: another server may have taken the place."""
    with contextlib.suppress(FileNotFoundError), opened_alone(path.parent, os.O_RDONLY | os.O_DIRECTORY) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        status = os.lstat(path)
        if _Opened(status.st_dev, status.st_ino) == opened:
            os.unlink(path)
