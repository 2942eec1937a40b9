"""What a process must be like to serve a mount for long."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from pathlib import Path

_OOM_SCORE_ADJ = -500  # proc_pid_oom_score_adj(5): -1000 (never) to 1000


def prepare_process() -> None:
    """Before any layer is opened: no umask of its own, as many open files as allowed, and not the first to go when memory is
    short."""
    # The caller's umask comes with each request.
    os.umask(0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A killed daemon takes the tree away from all who use it.  Only CAP_SYS_RESOURCE may lower the score, and /proc may be
    # read-only in a container; without it all goes on as before.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))


def tune_garbage_collector() -> None:
    """After everything is loaded.  The objects that stay are acyclic, so a collection finds little; what it costs is a late
    answer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def detach_from_terminal() -> None:
    """Give up the standard streams.  A container engine waits for the end of the stderr that it gave to its mount program."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
