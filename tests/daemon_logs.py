"""What the daemons of a test run had to complain about."""

from __future__ import annotations

import re
from pathlib import Path

# A record goes on until the next line that starts with a date (the format is that of unionfs/mounter/log.py); a traceback
# without one was written by something else than logging.
_ERROR = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) .*(?:\n(?!\d{4}-).*)*|^Traceback .*(?:\n(?!\d{4}-).*)*", re.MULTILINE)


class DaemonLogs:
    """The logs in a directory, which is ``UNIONFS_LOG_DIR`` of all daemons: one without complaints makes no file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[Path, int] = {}

    def new_errors(self) -> list[str]:
        """The errors since the last call, each with its traceback.

        Not since the start of the test: what is logged between two tests would be nobody's."""
        errors: list[str] = []
        for log in sorted(self._directory.iterdir()):
            with log.open("rb") as file:
                file.seek(self._seen.get(log, 0))
                text = file.read()
                self._seen[log] = file.tell()
            errors += _ERROR.findall(text.decode(errors="replace"))
        return errors
