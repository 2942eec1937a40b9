"""What a daemon takes up."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def process_figures() -> dict[str, float]:
    """What this process has taken: ``cpu_seconds`` (user and system), ``resident_bytes``, ``open_files``."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 6),
        "resident_bytes": resident_pages * resource.getpagesize(),
        "open_files": len(os.listdir("/proc/self/fd")) - 1,  # without the one that lists them
    }
