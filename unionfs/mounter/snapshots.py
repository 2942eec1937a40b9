"""Snapshots of an upper: the side of the command.  Those of a running mount are taken by its daemon, all else is done here.

Whatever changes anything but by taking a snapshot needs the upper for itself: it must not be mounted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.syncfs import syncfs
from unionfs.mounter.checks import check_directory, default_work
from unionfs.mounter.control import ask
from unionfs.mounter.errors import MounterError, NotMountedError, RefusedError
from unionfs.mounter.locks import locked
from unionfs.mounter.lookup import living_mount
from unionfs.overlay import Stack
from unionfs.overlay.layer_diff import Change, layer_diff
from unionfs.overlay.merge_layers import merge_snapshots
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshot, Snapshots

_TIMEOUT = 600.0
"""Seconds: files that are open for writing are copied meanwhile."""


class TakenSnapshot(NamedTuple):
    """What the daemon says of a snapshot that it took; see `unionfs.overlay.snapshots.About`."""

    number: int
    name: str
    layer: str
    consistent: bool


class ListedSnapshot(NamedTuple):
    """A snapshot, and whether what the upper shows now is built on it."""

    snapshot: Snapshot
    is_below: bool


def take_snapshot(merged: Path, name: str | None) -> TakenSnapshot:
    """Take a snapshot of the mount on ``merged``.

    Raises:
        MounterError: there is no such mount, or no snapshot can be taken of it; nothing has changed then.
    """
    mount = living_mount(merged)
    # What programs wrote before must be in it, though the kernel may not have told the daemon yet.
    fd = os.open(merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
    try:
        return TakenSnapshot(**ask(mount.directory, "snapshot", _TIMEOUT, name=name))
    except OSError as error:
        remedies = {
            errno.EEXIST: f"choose another name (unionfs snapshot ls {merged} shows them)",
            errno.EBUSY: "try again",
            errno.ENOSPC: "free some space, or remove a snapshot",
        }
        remedy = remedies.get(error.errno or 0, "see unionfs snapshot --help for what it needs")
        raise RefusedError(str(merged), f"no snapshot was taken: {_words(error)}", remedy) from None


def list_snapshots(given: Path) -> list[ListedSnapshot]:
    """The snapshots of a mount or an upper, oldest first.

    Raises:
        MounterError: there is no such directory.
    """
    snapshots = _snapshots(given)
    below = snapshots.below(snapshots.upper)
    return [ListedSnapshot(snapshot, snapshot.number in below) for snapshot in snapshots.all()]


def snapshot_changes(given: Path, old: str, new: str | None) -> Iterator[Change]:
    """What is different in snapshot ``new`` (None: in what there is now) from ``old``.

    Raises:
        MounterError: there is no such snapshot, or a layer of it is gone.
    """
    snapshots = _snapshots(given)
    first = _find(snapshots, old)
    lowers = tuple(Path(lower) for lower in first.about.lowers)
    before = Stack((*_stack(snapshots, first), *lowers))
    top = (snapshots.upper, *snapshots.chain()) if new is None else _stack(snapshots, _find(snapshots, new))
    return layer_diff(before, Stack((*top, *lowers)), is_user=_is_user(snapshots.upper))


def rollback(given: Path, text: str, *, discard: bool) -> str | None:
    """Let an upper that is not mounted show what it was when snapshot ``text`` was taken.  What it is now becomes a snapshot too,
    whose name is returned, unless it is to be discarded.

    Raises:
        MounterError: there is no such snapshot, or the upper is in use.
    """
    with _for_itself(given) as snapshots:
        target = _find(snapshots, text)
        staged = snapshots.stage(None, [Path(lower) for lower in target.about.lowers])
        try:
            snapshots.start_over(staged, target)
            staged.exchange(is_consistent=True, sync=True)
        except OSError:
            staged.discard()
            raise
        # The index of hard links is of the upper that went; one in a work directory elsewhere a mount finds to be so.
        snapshots.recover(_work(snapshots))
        if not discard:
            assert staged.about is not None
            return staged.about.name
        snapshots.remove(staged.number)
        return None


def remove_snapshot(given: Path, text: str) -> None:
    """Remove a snapshot that nothing is built on.

    Raises:
        MounterError: there is none, or something needs it.
    """
    with _for_itself(given) as snapshots:
        snapshot = _find(snapshots, text)
        users = _users(snapshots, snapshot.number)
        if users:
            remedy = "merge it into the next one (unionfs snapshot merge), which keeps what is shown"
            raise RefusedError(text, f"cannot be removed: {' and '.join(users)} would lose what is in it", remedy)
        snapshots.remove(snapshot.number)


def merge(given: Path, old: str, new: str) -> int:
    """Make one snapshot of ``new`` and all below it down to ``old``; it keeps the name of ``new``.  How many were merged.

    Raises:
        MounterError: they do not lie upon each other, or something else is built on one between.
    """
    with _for_itself(given) as snapshots:
        top, bottom = _find(snapshots, new), _find(snapshots, old)
        numbers = (top.number, *top.below)
        if bottom.number not in numbers or bottom.number == top.number:
            raise RefusedError(old, f"is not below {new}", f"unionfs snapshot ls {given} shows which are")
        merged = numbers[: numbers.index(bottom.number) + 1]
        for number in merged[1:]:
            users = [user for user in _users(snapshots, number) if user not in {f"snapshot {other}" for other in merged}]
            others = [user for user in users if not _needs_all(snapshots, user, merged)]
            if others:
                problem = f"cannot be merged: {' and '.join(others)} needs it"
                raise RefusedError(str(number), problem, "remove or merge that first")
        merge_snapshots(snapshots, merged, is_user=_is_user(snapshots.upper))
        return len(merged)


# -- finding ------------------------------------------------------------------------------------------------------------------


def _snapshots(given: Path) -> Snapshots:
    """Those of the mount on ``given``, or else of the upper ``given``."""
    try:
        record = living_mount(given).record
    except NotMountedError:
        upper = check_directory("upper", given)
    else:
        if record.upper is None:
            raise RefusedError(str(given), "has no upper, so there are no snapshots of it", "give a union with an upper")
        upper = Path(record.upper)
    return Snapshots(upper, PrivateXattrs(_is_user(upper)))


def _is_user(upper: Path) -> bool:
    """Whether the attributes of an upper are in ``user.overlay.``."""
    return PrivateXattrs(user=True).snapshots.decode() in os.listxattr(upper)


@contextmanager
def _for_itself(given: Path) -> Iterator[Snapshots]:
    """The snapshots of an upper that nobody has mounted, with what a crash left brought in order."""
    try:
        living_mount(given)
    except NotMountedError:
        pass
    else:
        raise RefusedError(str(given), "is mounted", "unmount it, and give the upper directory instead")
    snapshots = _snapshots(given)
    with locked(snapshots.upper):
        try:
            snapshots.recover(_work(snapshots))
            yield snapshots
        except OSError as error:
            thing = os.fsdecode(error.filename) if isinstance(error.filename, bytes | str) else str(given)
            raise MounterError(thing, _words(error), "nothing is lost; correct that and try again") from error


def _work(snapshots: Snapshots) -> Path | None:
    work = default_work(snapshots.upper)
    return work if work.is_dir() else None


def _find(snapshots: Snapshots, text: str) -> Snapshot:
    try:
        return snapshots.find(text)
    except OSError as error:
        raise RefusedError(text, _words(error), f"unionfs snapshot ls {snapshots.upper} shows them") from None


def _stack(snapshots: Snapshots, snapshot: Snapshot) -> tuple[Path, ...]:
    return snapshots.layers((snapshot.number, *snapshot.below))


def _users(snapshots: Snapshots, number: int) -> list[str]:
    """What is built on a snapshot."""
    users = ["the upper"] if number in snapshots.below(snapshots.upper) else []
    return users + [f"snapshot {snapshot.number}" for snapshot in snapshots.all() if number in snapshot.below]


def _needs_all(snapshots: Snapshots, user: str, merged: Sequence[int]) -> bool:
    below = snapshots.below(snapshots.upper) if user == "the upper" else snapshots.get(int(user.split()[1])).below
    return merged[0] in below


def _words(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
