"""Run a function in another process: as another user, with another umask, to hold a lock against this one; or several at
once."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


def in_child(
    function: Callable[[], Any],
    *,
    cwd: Path,
    uid: int = 0,
    gid: int = 0,
    groups: Sequence[int] = (),
    umask: int = 0o022,
) -> Any:
    """What ``function`` returns, or the exception that it raises, in a forked process with this identity.

    It stands in ``cwd`` and shall use relative names: the way there, pytest's temporary directory, is closed to other
    users."""
    return _report_of(_fork(function, cwd, uid, gid, groups, umask))


def all_at_once(functions: Sequence[Callable[[], T]], *, cwd: Path) -> list[T]:
    """What each of the functions returns, all run at the same time, each in a process of its own that stands in ``cwd``.

    None begins before all processes are there.  An exception that one of them raises is raised here, when all have ended."""
    ready, start = os.pipe(), os.pipe()

    def waiting(function: Callable[[], T]) -> Callable[[], T]:
        def run() -> T:
            os.close(start[1])
            os.write(ready[1], b"r")
            os.read(start[0], 1)  # ends at the end of the pipe: when the parent, and all children, have closed it
            return function()

        return run

    children = [_fork(waiting(function), cwd) for function in functions]
    for _ in children:
        os.read(ready[0], 1)
    for fd in (*ready, *start):
        os.close(fd)
    outcomes = []
    for child in children:
        try:
            outcomes.append(_report_of(child))
        except Exception as error:
            outcomes.append(error)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


class _Child(NamedTuple):
    pid: int
    report: int
    """The end of the pipe that its report comes out of."""


def _fork(
    function: Callable[[], Any], cwd: Path, uid: int = 0, gid: int = 0, groups: Sequence[int] = (), umask: int = 0o022
) -> _Child:
    receive, send = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns where other threads exist; none of them holds a lock that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(receive)
        _run_child(function, send, cwd, uid, gid, groups, umask)
    os.close(send)
    return _Child(pid, receive)


def _report_of(child: _Child) -> Any:
    with open(child.report, "rb") as pipe:
        report = pipe.read()
    _, status = os.waitpid(child.pid, 0)
    assert status == 0, f"the child ended with wait status {status:#x}"
    succeeded, result = pickle.loads(report)  # noqa: S301 - written by our own child
    if succeeded:
        return result
    raise result


def _run_child(function: Callable[[], Any], send: int, cwd: Path, uid: int, gid: int, groups: Sequence[int], umask: int) -> None:
    """The life of the child: never returns, so that no part of the test runs twice."""
    try:
        os.chdir(cwd)
        os.umask(umask)
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        try:
            report = True, function()
        except Exception as error:
            report = False, error
        with open(send, "wb") as pipe:
            pickle.dump(report, pipe)
        os._exit(0)
    finally:
        os._exit(1)
