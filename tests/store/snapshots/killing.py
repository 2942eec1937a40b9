"""Killing a process at a moment of its own choosing: before its n-th system call or statement of the database."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Callable

CALLS = {
    "mkdir", "rename", "open", "close", "execute", "fsync", "rmdir", "unlink", "link", "symlink", "mknod", "chmod", "chown",
    "setxattr", "utime", "flock", "copy_file_range", "sendfile", "ftruncate", "scandir", "listdir", "lstat", "fork", "fork_exec",
    "waitpid", "recv", "shutdown",
}  # fmt: skip
"""Names of the calls before which a process is killed."""


def killed_at(point: int, act: Callable[[], object]) -> bool:
    """Do it in a child that is killed before its call number ``point``; False: it had fewer, and came to its end."""
    pid = os.fork()
    if pid == 0:
        count = 0
        own = os.getpid()

        def profile(_frame: types.FrameType, event: str, call: object) -> None:
            nonlocal count
            # A process that is forked meanwhile has the profile too.
            if event == "c_call" and getattr(call, "__name__", "") in CALLS and os.getpid() == own:
                count += 1
                if count > point:
                    os.kill(own, signal.SIGKILL)

        status = 1
        try:
            sys.setprofile(profile)
            act()
            status = 0
        finally:
            sys.setprofile(None)
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
