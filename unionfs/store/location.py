"""Where the store is."""

from __future__ import annotations

import os
from pathlib import Path

_OF_ROOT = Path("/var/lib/unionfs")


def store_root(given: Path | None = None) -> Path:
    """The directory that holds everything: ``given`` (``--root``), else UNIONFS_ROOT, else ``/var/lib/unionfs`` for root and
    ``$XDG_DATA_HOME/unionfs`` (XDG Base Directory Specification) for others.  Absolute; it need not exist.

    root of a user namespace is not root here: /var/lib is not its own.
    """
    if given is not None:
        return Path(os.path.abspath(given))
    from_environment = os.environ.get("UNIONFS_ROOT")
    if from_environment:
        return Path(os.path.abspath(from_environment))
    if os.geteuid() == 0 and os.access(_OF_ROOT.parent, os.W_OK):
        return _OF_ROOT
    # The specification: a path that is not absolute is to be ignored.
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data_home if data_home.is_absolute() else Path.home() / ".local/share") / "unionfs"
