"""What a process must be like to serve a mount for long."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
from pathlib import Path

from unionfs.linux.scheduling import ask_for_slice

_OOM_SCORE_ADJ = -500  # proc_pid_oom_score_adj(5): -1000 (never) to 1000

_SLICE_NS = 100_000
"""Longer than most requests take, and the shortest that Linux grants."""


def prepare_process() -> None:
    """Before any layer is opened: no umask of its own, as many open files as allowed, not the first to go when memory is short,
    and among the first to run when there is something to do."""
    # The caller's umask comes with each request.
    os.umask(0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A killed daemon takes the tree away from all who use it.  Only CAP_SYS_RESOURCE may lower the score, and /proc may be
    # read-only in a container; without it all goes on as before.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))
    # Whoever asks for little at a time gets it sooner, and clients wait for each answer.  A hint: an older kernel, a container
    # that forbids the call, or a machine whose number for it is not known serve as they always did.
    with contextlib.suppress(OSError):
        ask_for_slice(_SLICE_NS)


def stop_signals() -> list[signal.Signals]:
    """The signals that end a mount, but for those that whoever started us has ignored: a shell starts background jobs with
    SIGINT ignored, nohup(1) its program with SIGHUP, and they mean it."""
    all_signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return [number for number in all_signals if signal.getsignal(number) is not signal.SIG_IGN]


def keep_what_is_loaded() -> None:
    """No garbage collection looks again through the objects that are there now: they stay, all but a few."""
    gc.freeze()


def tune_garbage_collector() -> None:
    """After everything is loaded.  The objects that stay are acyclic, so a collection finds little; what it costs is a late
    answer."""
    gc.collect()
    keep_what_is_loaded()
    gc.set_threshold(50_000, 20, 50)


def detach_from_terminal() -> None:
    """Give up the standard streams.  A container engine waits for the end of the stderr that it gave to its mount program."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
