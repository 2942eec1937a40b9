"""The snapshots of an upper, found again when it is mounted: they are its topmost lower layers."""

from __future__ import annotations

import dataclasses

from unionfs.mounter.errors import RefusedError, from_os_error
from unionfs.mounter.request import MountRequest
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshots


def with_snapshots(checked: MountRequest, *, goes_on: bool = False) -> tuple[MountRequest, int]:
    """``checked`` with the snapshots below its upper put above its lowers; how many there are.

    If it is writable, and so locked, what a crash left of the making of a snapshot is finished or removed first.  ``goes_on``: it
    is mounted, and another worker goes on.

    Raises:
        RefusedError: one of them is not there.
    """
    if checked.upper is None:
        return checked, 0
    snapshots = Snapshots(checked.upper, PrivateXattrs(checked.union.userxattr))
    try:
        if not checked.read_only:
            snapshots.recover(checked.work, goes_on=goes_on)
        chain = snapshots.chain()
    except OSError as error:
        shown = from_os_error(error, str(checked.upper))
        raise RefusedError(shown.thing, shown.problem, "put its snapshots back to where they were") from error
    return dataclasses.replace(checked, lowers=(*chain, *checked.lowers)), len(chain)
