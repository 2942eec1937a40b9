"""What a daemon uses besides the time of its users: memory, and CPU time when nobody asks it anything."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unionfs.bench.corpora import Corpora, write_small_files
from unionfs.bench.errors import BenchError
from unionfs.bench.isolated import run_isolated
from unionfs.bench.mounting import abort, mounted
from unionfs.bench.systems import Layout, System
from unionfs.bench.workloads.small_tree import walk

NAME = "daemon"
"""What ``--only`` calls these figures."""

_FILES = 100_000
_A_DIRECTORY = 1_000
_SETTLE = 0.5
"""Seconds after the last request before a daemon counts as idle."""


@dataclass(frozen=True, slots=True)
class DaemonFigures:
    """``rss`` and ``pss``: bytes right after the mount.  ``bytes_per_inode``: by how much the pss has grown, for each file,
    after all was looked at once.  ``idle_cpu``: CPU seconds used while ``idle_seconds`` passed without a request.  None where
    ``failure`` tells what went wrong."""

    rss: int | None = None
    pss: int | None = None
    bytes_per_inode: float | None = None
    idle_cpu: float | None = None
    idle_seconds: float | None = None
    failure: str | None = None


def measure_daemon(system: System, directory: Path, corpora: Corpora, limit: float, idle_seconds: float) -> DaemonFigures | None:
    """Mount a tree of 100,000 files in the new ``directory``, walk it, wait.  None if the system has no daemon."""
    count = corpora.scaled(_FILES)
    layout = Layout(directory)

    def first_answer() -> dict[str, Any]:
        os.stat(layout.merged)
        return {}

    try:
        with mounted(system, [_tree(corpora, count)], layout, limit) as mount:
            daemon = mount.daemon
            if not daemon.pids:
                return None
            run_isolated(first_answer, limit, lambda: abort(layout))
            start = daemon.memory()
            found = run_isolated(lambda: {"files": walk(layout.merged)}, limit, lambda: abort(layout))["files"]
            if found != count:
                raise BenchError(f"wrong result: {found} files found instead of {count}")
            grown = daemon.memory().pss - start.pss
            time.sleep(_SETTLE)
            before = daemon.cpu_seconds()
            time.sleep(idle_seconds)
            return DaemonFigures(start.rss, start.pss, grown / count, daemon.cpu_seconds() - before, idle_seconds)
    except (BenchError, OSError) as error:
        return DaemonFigures(failure=str(error).replace(f"{directory}/", ""))


def _tree(corpora: Corpora, count: int) -> Path:
    sizes = {f"directory-{number // _A_DIRECTORY:03}/file-{number:06}": 1 for number in range(count)}
    return corpora.get("many-files", lambda path: write_small_files(path, sizes, seed=70))
