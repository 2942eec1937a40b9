"""Executing a command again as root of the user's namespace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from unionfs.linux.user_namespaces import enter_dependent_mount_namespace, join_mount_namespace, join_user_namespace
from unionfs.mounter.errors import MounterError
from unionfs.mounter.registry import runtime_directory
from unionfs.rootless import ARRIVING
from unionfs.rootless.id_mapping import enter_mapped_user_namespace
from unionfs.rootless.member import MARK, Door, door, saved, this_process

_STATE, _LOCK = "rootless.json", "rootless.lock"


def ensure_root(environment: Mapping[str, str]) -> None:
    """Return as root: of the machine, of whatever namespace the process is in, or, for any other user, of his own.  There the
    process executes its command line anew, with ``environment`` added, and comes here a second time.

    Process id, standard streams, signals and working directory stay.  Must be called before there is a second thread.

    Raises:
        MounterError: the namespace cannot be made or joined; the error names the remedy.
        OSError: the directory where mounts are registered cannot be used.
    """
    if os.geteuid() == 0:
        _arrive()
    else:
        _go(environment)


def _arrive() -> None:
    """Let others look for us: they see the mark from the moment on at which the process had been executed."""
    lock = os.environ.pop(ARRIVING, None)
    if lock is not None:
        os.close(int(lock))


def _go(environment: Mapping[str, str]) -> NoReturn:
    base = runtime_directory()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = _working_directory()
    # Whoever joins may do so beside others.  Whoever finds nobody to join must be alone, or two would make one namespace each,
    # whose root has no right over what is in the other.  Both keep the lock until the mark can be seen.
    for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
        with _locked(base / _LOCK, kind) as lock:
            with door(base, saved(base / _STATE)) as way:
                is_inside = _enter(way, base / _STATE, may_make=kind == fcntl.LOCK_EX)
            if is_inside:
                mark = this_process().mark(base)
                _execute({**environment, MARK: mark, ARRIVING: str(lock)}, place, lock)
    raise AssertionError("with the lock alone there is always a namespace")


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, kind)
        yield fd
    finally:
        os.close(fd)


def _enter(way: Door | None, state: Path, *, may_make: bool) -> bool:
    """Whether this process is in the namespaces now; False where it would have to make some and may not."""
    if way is not None and way.mounts is not None:
        _join(way.user)
        join_mount_namespace(way.mounts)
        return True
    if not may_make:
        return False
    if way is None:
        enter_mapped_user_namespace()
    else:
        _join(way.user)
        enter_dependent_mount_namespace()
    this_process().save(state)
    return True


def _join(user: int) -> None:
    try:
        join_user_namespace(user)
    except OSError as error:
        remedy = "end the containers that are in it, or run the command as root"
        raise MounterError("user namespace", f"cannot be joined: {error.strerror}", remedy) from error


def _execute(environment: Mapping[str, str], place: str | None, lock: int) -> NoReturn:
    if place is not None:
        # setns(2) has left us in the root of the namespace.
        os.chdir(place)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.set_inheritable(lock, True)
    words = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, words, {**os.environ, **environment})  # noqa: S606 - no shell is wanted
