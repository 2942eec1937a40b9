"""Run a function in another process: as another user, with another umask, or to hold a lock against this one."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


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
    receive, send = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns where other threads exist; none of them holds a lock that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(receive)
        _run_child(function, send, cwd, uid, gid, groups, umask)
    os.close(send)
    with open(receive, "rb") as pipe:
        report = pipe.read()
    _, status = os.waitpid(pid, 0)
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
