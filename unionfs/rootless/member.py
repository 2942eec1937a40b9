"""Which processes are in the user's namespaces: found by what the kernel says of each process, so that there is no list of them
that a kill could falsify."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from unionfs.linux.user_namespaces import IdRange, mapped_uids, namespace_identity

MARK = "UNIONFS_ROOTLESS"
"""The environment variable by which a process of ours shows whose namespaces it is in (`Namespaces.mark`).  The environment that
a process was executed with stays to be seen in /proc (proc_pid_environ(5)), that of its forks too."""


@dataclass(frozen=True)
class Namespaces:
    """A user namespace and a mount namespace.  Their numbers are given again to others after their end.

    So a mount namespace is ours where a process in it has the mark of just these two.  A user namespace without such a process
    is as good as ours where it has the number of the last one and the same ``uids``: the user owns it, or nobody lets him join.
    """

    user: tuple[int, int]
    mounts: tuple[int, int]
    uids: list[IdRange]

    def mark(self, base: Path) -> str:
        """What `MARK` is in the processes that are in them; ``base`` is the directory where the mounts are registered, for which
        there is one such pair."""
        return _mark(self.user, self.mounts, base)

    def save(self, path: Path) -> None:
        """Write them down, in place of what ``path`` says.  Raises OSError."""
        new = path.with_name(f".{path.name}.new")
        new.write_text(json.dumps(asdict(self)))
        new.rename(path)


def _mark(user: tuple[int, int], mounts: tuple[int, int], base: Path) -> str:
    return f"{user[0]}:{user[1]} {mounts[0]}:{mounts[1]} {base}"


def this_process() -> Namespaces:
    """Those that this process is in.

    Raises:
        OSError: /proc is not mounted.
    """
    return Namespaces(namespace_identity("/proc/self/ns/user"), namespace_identity("/proc/self/ns/mnt"), mapped_uids())


def saved(path: Path) -> Namespaces | None:
    """What `Namespaces.save` wrote; None: nothing, or another version did."""
    try:
        text = json.loads(path.read_text())
        uids = [IdRange(*each) for each in text["uids"]]
        return Namespaces(tuple(text["user"]), tuple(text["mounts"]), uids)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Door:
    """A way into the namespaces: descriptors of ``/proc/PID/ns``.  ``mounts`` is None where nobody is left in the mount
    namespace, only in the user namespace: the processes of a container whose monitor and mount were killed."""

    user: int
    mounts: int | None

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self.user, self.mounts):
            if fd is not None:
                os.close(fd)


@contextlib.contextmanager
def door(base: Path, last: Namespaces | None) -> Iterator[Door | None]:
    """The way into the namespaces of the mounts that are registered in ``base``; None: they have ended.

    ``last``: what was saved when they were made.

    Raises:
        OSError: /proc cannot be read.
    """
    ours = namespace_identity("/proc/self/ns/user")
    second: Door | None = None
    with contextlib.ExitStack() as at_end:
        for directory in _processes():
            with directory as process:
                found = None if process is None else _door_of(process, base, last, ours)
            if found is None:
                continue
            at_end.callback(found.close)
            if found.mounts is not None:
                yield found
                return
            second = found
        yield second


@contextlib.contextmanager
def _opened(name: str) -> Iterator[int | None]:
    """A descriptor of the process's directory: it never comes to mean another process of the same number."""
    try:
        fd = os.open(f"/proc/{name}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _processes() -> Iterator[contextlib.AbstractContextManager[int | None]]:
    return (_opened(name) for name in os.listdir("/proc") if name.isdecimal())


def _door_of(process: int, base: Path, last: Namespaces | None, ours: tuple[int, int]) -> Door | None:
    # Of others' processes nothing is shown; some end while we look.
    with contextlib.suppress(PermissionError, FileNotFoundError, ProcessLookupError):
        user = namespace_identity("ns/user", process)
        if user == ours:
            return None
        is_inside = _has_mark(process, _mark(user, namespace_identity("ns/mnt", process), base))
        if is_inside or (last is not None and user == last.user and _uids_of(process) == last.uids):
            return _door(process, has_mounts=is_inside)
    return None


def _door(process: int, *, has_mounts: bool) -> Door:
    user = os.open("ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        return Door(user, os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process) if has_mounts else None)
    except BaseException:
        os.close(user)
        raise


def _uids_of(process: int) -> list[IdRange]:
    return mapped_uids(f"self/fd/{process}")


def _has_mark(process: int, mark: str) -> bool:
    try:
        fd = os.open("environ", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except PermissionError:  # another user id of a container
        return False
    with open(fd, "rb") as file:
        return os.fsencode(f"{MARK}={mark}") in file.read().split(b"\0")
