"""Changing the lower layers of a running mount: the side of the command, which checks and asks the daemon."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from unionfs.mounter.checks import check_added_layer
from unionfs.mounter.control import ask
from unionfs.mounter.errors import MounterError, RefusedError
from unionfs.mounter.lookup import living_mount
from unionfs.mounter.registry import Record, RegisteredMount

_TIMEOUT = 120.0
"""Seconds: all directories that the kernel knows are read anew."""
_ATTEMPTS = 20


class NamedLayer(NamedTuple):
    """A layer and what messages call it."""

    label: str
    path: str


def list_layers(merged: Path) -> list[NamedLayer]:
    """The layers of the mount on ``merged``, top first.

    Raises:
        MounterError: as `unionfs.mounter.lookup.living_mount`.
    """
    record = living_mount(merged).record
    upper = [NamedLayer("upper", record.upper)] if record.upper else []
    lowers = [NamedLayer(f"lower[{index}]", path) for index, path in enumerate(record.lowers)]
    return upper + lowers + [NamedLayer(f"data[{index}]", path) for index, path in enumerate(record.data)]


def add_layer(merged: Path, given: Path, top: bool) -> Path:
    """Add the directory ``given`` as a lower layer, above or below the others; its resolved path.

    Raises:
        MounterError: it is not fit to be a layer of this mount, or something is in the way; nothing has changed then.
    """

    def add(mount: RegisteredMount) -> Path:
        path = check_added_layer(given, _roles(mount.record))
        _ask(mount, "add_layer", path=str(path), top=top)
        return path

    return _retried(merged, given, add, "added")


def remove_layer(merged: Path, given: Path) -> Path:
    """Remove the lower layer ``given``; its path as it was mounted.

    Raises:
        MounterError: it is no lower layer, or the last, or something of it is in use; nothing has changed then.
    """

    def remove(mount: RegisteredMount) -> Path:
        path = _find_layer(mount.record, given)
        _ask(mount, "remove_layer", path=path)
        return Path(path)

    return _retried(merged, given, remove, "removed")


def refresh(merged: Path) -> None:
    """Have the lower layers of the mount on ``merged`` read anew.

    Raises:
        MounterError: there is no such mount, or a layer cannot be read.
    """
    mount = living_mount(merged)
    try:
        _ask(mount, "refresh")
    except OSError as error:
        raise MounterError(str(merged), f"a layer cannot be read: {_words(error)}", "correct the layer and try again") from None


def _retried(merged: Path, given: Path, change: Callable[[RegisteredMount], Path], done: str) -> Path:
    """Carry out ``change``, again if another command was faster."""
    for _ in range(_ATTEMPTS):
        try:
            return change(living_mount(merged))
        except OSError as error:
            if error.errno == errno.EAGAIN:
                continue
            in_use = f"end what uses it (fuser -vm {merged}) and try again"
            remedy = in_use if error.errno == errno.EBUSY else "correct the layer, or unmount and mount with the layers wanted"
            raise RefusedError(str(given), f"cannot be {done}: {_words(error)}", remedy) from None
    raise RefusedError(str(given), f"cannot be {done}: the layers are being changed by others", "try again")


def _ask(mount: RegisteredMount, operation: str, **arguments: Any) -> Any:
    return ask(mount.directory, operation, _TIMEOUT, layer_changes=mount.record.layer_changes, **arguments)


def _find_layer(record: Record, given: Path) -> str:
    # Not strictly resolved: a layer whose directory was removed can be given up too.
    for path in (os.path.realpath(given), os.path.abspath(given)):
        if path == record.upper:
            raise RefusedError(str(given), "is the upper layer", "only lower layers can be removed")
        if path in record.data:
            raise RefusedError(str(given), "is a data-only layer", "only lower layers can be removed")
        if path in record.lowers:
            if len(record.lowers) == 1:
                raise RefusedError(str(given), "is the only lower layer", "add another one first, or unmount")
            return path
    raise RefusedError(str(given), "not a layer of this union", f"unionfs layers {record.mountpoint} list shows them")


def _roles(record: Record) -> list[tuple[str, str]]:
    """What the directories of a mount are called, and where they are."""
    others = [("upper", record.upper), ("work", record.work), ("mount point", record.mountpoint)]
    several = [("lower", path) for path in record.lowers] + [("data-only layer", path) for path in record.data]
    return several + [(role, path) for role, path in others if path]


def _words(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
