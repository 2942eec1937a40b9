"""What goes wrong in the store, in the form that commands print: which thing, what is wrong with it, what to do about it."""

from __future__ import annotations

from unionfs.mounter.errors import MounterError


class StoreError(MounterError):
    """Something of the store was refused or failed."""


class NotFoundError(StoreError):
    """There is no image, layer, snapshot or container of that name."""


class ExistsError(StoreError):
    """There is one of that name already."""


class InUseError(StoreError):
    """It cannot go while others need it; the error names them."""


class CorruptError(StoreError):
    """An archive or a layer is not what it should be: truncated, malformed, of another digest, of an unknown media type."""


class RefusedEntryError(StoreError):
    """An entry of an archive would leave the layer, or cannot be made here.  Nothing of the archive was kept."""


def wrong_usage(thing: str, problem: str, remedy: str) -> StoreError:
    """An error that ends a command with status 2."""
    error = StoreError(thing, problem, remedy)
    error.exit_status = 2
    return error
