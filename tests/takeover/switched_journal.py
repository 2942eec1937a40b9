"""The command ``unionfs``, whose workers keep a journal or none, as they are told while they serve: for measuring what it costs.

Two mounts of the very same code differ by 5 % and more for as long as they live, by where their memory lies; so one mount is
measured against itself.  A worker that has kept no journal for a while cannot be taken over from.
"""

from __future__ import annotations

import contextlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from unionfs.cli.main import main
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.direct_handlers import Operation
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.wire import RequestHeader
from unionfs.journal.journal import NoJournal
from unionfs.mounter import worker


class Journal(StrEnum):
    """What a worker is told: the name of an attribute that it is asked for."""

    KEPT = "user.unionfs-test.journal-kept"
    NONE = "user.unionfs-test.journal-none"


def switch(merged: Path, journal: Journal) -> None:
    """Tell the worker that serves ``merged``."""
    with contextlib.suppress(OSError):  # there is no such attribute
        os.getxattr(merged, journal)


class _Switched(DirectConnection):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        journals = {Journal.KEPT: self._journal, Journal.NONE: NoJournal()}
        operations = self._handlers.operations
        getxattr = operations[Opcode.GETXATTR]

        def look(header: RequestHeader, body: memoryview) -> Any:
            for name, journal in journals.items():
                if name.encode() in bytes(body):
                    self.flush()
                    self._use(journal)
            return getxattr.call(header, body)

        operations[Opcode.GETXATTR] = Operation(look, getxattr.finish)

    def _use(self, journal: NoJournal) -> None:
        """What `Tree.use_journal` and the constructors do, but for the buffer of the requests."""
        tree: Any = getattr(self._filesystem, "_tree")  # noqa: B009
        sources = self._journal.sources
        tree.use_journal(journal)
        journal.sources = sources
        for part in (self, self.backing_files):
            if part is not None:
                part._journal, part._touched = journal, journal.touched


if __name__ == "__main__":
    setattr(worker, "DirectConnection", _Switched)  # noqa: B010  (mypy: it is not exported)
    main()
