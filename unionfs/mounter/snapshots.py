"""Snapshots of an upper: the side of the command, which checks.  Changes under a running mount are made by its daemon, those of
an upper that is not mounted here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from unionfs.linux.syncfs import syncfs
from unionfs.mounter.checks import check_directory, default_work
from unionfs.mounter.control import ask
from unionfs.mounter.errors import MounterError, NotMountedError, RefusedError
from unionfs.mounter.locks import locked
from unionfs.mounter.lookup import living_mount
from unionfs.mounter.registry import RegisteredMount, State, registered_mounts
from unionfs.overlay import Stack
from unionfs.overlay.layer_diff import Change, layer_diff
from unionfs.overlay.merge_layers import merge_snapshots
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshot, Snapshots

_TIMEOUT = 3600.0
"""Seconds: files that are open for writing are copied meanwhile, and layers are merged."""
_ATTEMPTS = 20


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
    _write_out(mount)
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


def rollback(given: Path, text: str, *, discard: bool, force: bool = False) -> str | None:
    """Let a mount or an upper show what it was when snapshot ``text`` was taken.  What it is now becomes a snapshot too, whose
    name is returned, unless it is to be discarded.

    ``force``: also if files of a mount are open for writing that lose their names by it.

    Raises:
        MounterError: there is no such snapshot, or something is in the way; nothing has changed then.
    """
    mount = _mount_of(given)
    if mount is not None:
        return _roll_back_live(mount, given, text, discard=discard, force=force)
    with _for_itself(given) as snapshots:
        target = _find(snapshots, text)
        staged = snapshots.stage(None, [Path(lower) for lower in target.about.lowers])
        try:
            snapshots.start_over(staged, target)
            staged.exchange(is_consistent=True, sync=True, keeps=not discard)
        except OSError:
            staged.discard()
            raise
        # The index of hard links is of the upper that went; one in a work directory elsewhere a mount finds to be so.
        snapshots.recover(_work(snapshots))
        assert staged.about is not None
        return None if discard else staged.about.name


def _roll_back_live(mount: RegisteredMount, given: Path, text: str, *, discard: bool, force: bool) -> str | None:
    _find(_snapshots_of(mount), text)
    _write_out(mount)
    try:
        kept: str | None = ask(mount.directory, "snapshot_rollback", _TIMEOUT, name=text, discard=discard, force=force)
    except OSError as error:
        in_use = f"end what uses it (fuser -vm {mount.record.mountpoint}); with --force a writer goes on, with a removed file"
        remedy = in_use if error.errno == errno.EBUSY else "correct that and try again"
        raise RefusedError(str(given), f"is as it was: {_words(error)}", remedy) from None
    return kept


def remove_snapshot(given: Path, text: str) -> None:
    """Remove a snapshot that nothing is built on.

    Raises:
        MounterError: there is none, or something needs it.
    """

    def removable(snapshots: Snapshots) -> int:
        snapshot = _find(snapshots, text)
        users = _users(snapshots, snapshot.number)
        if users:
            remedy = "merge it into the next one (unionfs snapshot merge), which keeps what is shown"
            raise RefusedError(text, f"cannot be removed: {' and '.join(users)} would lose what is in it", remedy)
        return snapshot.number

    def remove(mount: RegisteredMount) -> None:
        _ask(mount, "snapshot_rm", number=removable(_snapshots_of(mount)))

    if _retried(given, "removed", remove):
        return
    with _for_itself(given) as snapshots:
        snapshots.remove(removable(snapshots))


def merge(given: Path, old: str, new: str) -> int:
    """Make one snapshot of ``new`` and all below it down to ``old``; it keeps the name of ``new``.  How many were merged.

    Raises:
        MounterError: they do not lie upon each other, or something else is built on one between.
    """

    def mergeable(snapshots: Snapshots) -> tuple[int, ...]:
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
        return merged

    merged: list[tuple[int, ...]] = []

    def carry_out(mount: RegisteredMount) -> None:
        merged[:] = [mergeable(_snapshots_of(mount))]
        _ask(mount, "snapshot_merge", numbers=merged[0])

    if not _retried(given, "merged", carry_out):
        with _for_itself(given) as snapshots:
            merged = [mergeable(snapshots)]
            merge_snapshots(snapshots, merged[0], is_user=_is_user(snapshots.upper))
    return len(merged[0])


# -- asking a daemon -----------------------------------------------------------------------------------------------------------


def _mount_of(given: Path) -> RegisteredMount | None:
    """The running mount on ``given``, or that of the upper ``given``."""
    try:
        return living_mount(given)
    except NotMountedError:
        path = os.path.realpath(given)
        return next((mount for mount in registered_mounts() if mount.state is State.MOUNTED and mount.record.upper == path), None)


def _write_out(mount: RegisteredMount) -> None:
    """What programs wrote before must be in a snapshot, though the kernel may not have told the daemon yet."""
    fd = os.open(mount.record.mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def _retried(given: Path, done: str, change: Callable[[RegisteredMount], None]) -> bool:
    """Carry out ``change``, again if another command was faster; false if there is no mount to carry it out on."""
    for _ in range(_ATTEMPTS):
        mount = _mount_of(given)
        if mount is None:
            return False
        try:
            change(mount)
            return True
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise RefusedError(str(given), f"nothing was {done}: {_words(error)}", "correct that and try again") from None
    raise RefusedError(str(given), f"nothing was {done}: its snapshots are being changed by others", "try again")


def _ask(mount: RegisteredMount, operation: str, **arguments: Any) -> None:
    ask(mount.directory, operation, _TIMEOUT, layer_changes=mount.record.layer_changes, **arguments)


# -- finding ------------------------------------------------------------------------------------------------------------------


def _snapshots(given: Path) -> Snapshots:
    """Those of the mount on ``given``, or else of the upper ``given``."""
    try:
        mount = living_mount(given)
    except NotMountedError:
        upper = check_directory("upper", given)
        return Snapshots(upper, PrivateXattrs(_is_user(upper)))
    return _snapshots_of(mount)


def _snapshots_of(mount: RegisteredMount) -> Snapshots:
    record = mount.record
    if record.upper is None:
        raise RefusedError(record.mountpoint, "has no upper, so there are no snapshots of it", "give a union with an upper")
    return Snapshots(Path(record.upper), PrivateXattrs(_is_user(Path(record.upper))))


def _is_user(upper: Path) -> bool:
    """Whether the attributes of an upper are in ``user.overlay.``."""
    return PrivateXattrs(user=True).snapshots.decode() in os.listxattr(upper)


@contextmanager
def _for_itself(given: Path) -> Iterator[Snapshots]:
    """The snapshots of an upper that nobody has mounted, with what a crash left brought in order."""
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
