"""What the kernel tells of a process or a thread in its file ``stat`` (proc_pid_stat(5))."""

from __future__ import annotations

from pathlib import Path


def stat_fields(process: Path) -> list[bytes]:
    """The fields from the third on: the state and so forth.  ``process``: its directory in /proc.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    # The second field is the name in parentheses and may itself hold anything, so the fields are counted from the last ")".
    return (process / "stat").read_bytes().rpartition(b")")[2].split()
