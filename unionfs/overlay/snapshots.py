"""Snapshots of an upper on disk: layers that were the upper once, how they are found again, and how one more is made.

Beside the upper ``NAME`` lies ``.NAME.snapshots``; snapshot 7 is ``7/layer`` in it, a layer in OverlayFS's format, and
``7/about`` (JSON, an `About`).  Which snapshots lie below a layer stands in an attribute of its root, ``unionfs.snapshots``:
numbers, the nearest first.  So what is frozen keeps the list that it had, and the new upper comes with its own: one
renameat2(2) of the two changes all there is to change.

What is being made is called ``7.new``, and counts if the upper has 7 in ``unionfs.made-with``: then the exchange has been
made, and `finish` does what is left, as often as need be.  Otherwise nothing has happened, and it is removed.  ``carried`` in
it lists the files that are in the new upper and the frozen one both, since somebody has them open for writing, with the
copies that replace them in the frozen one.  ``discarded`` in it says that what was the upper is to be removed (a rollback).

``7.kept`` has what a running union still needs of the layers that were merged into 7 (`unionfs.overlay.live_merge`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from unionfs.overlay.private_xattrs import PrivateXattrs

_AT_FDCWD = -100
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FINISHED = re.compile(r"[1-9][0-9]*")
_NEW = ".new"
_KEPT = ".kept"
_ABOUT, _CARRIED, _COPIES, _DISCARDED, _LAYER = "about", "carried", "copies", "discarded", "layer"


@dataclasses.dataclass(frozen=True)
class About:
    """What is known of a snapshot besides its contents: what the user calls it, when it was made (seconds since the epoch),
    over which lower layers (those below all snapshots), and whether its files are all of one moment
    (`unionfs.overlay.carried`).  ``replaces``: the snapshots that were merged into it, top first."""

    name: str
    created: float
    lowers: list[str]
    is_consistent: bool = True
    replaces: list[int] = dataclasses.field(default_factory=list)


class Snapshot(NamedTuple):
    """One snapshot.  ``below`` are the numbers of the snapshots that it needs, the nearest first."""

    number: int
    layer: Path
    below: tuple[int, ...]
    about: About


class CarriedFile(NamedTuple):
    """A file that a snapshot carries on into the new upper: ``copy`` (a name in ``copies``) stands for it in the frozen one, at
    ``names``, paths from the root."""

    copy: str
    names: tuple[bytes, ...]


def snapshots_directory(upper: Path) -> Path:
    """Where the snapshots of an upper are."""
    return upper.with_name(f".{upper.name}.snapshots")


class Snapshots:
    """The snapshots of one upper.  Whoever changes anything has locked that (`unionfs.mounter.locks`)."""

    def __init__(self, upper: Path, xattrs: PrivateXattrs) -> None:
        """``upper``: absolute, without symbolic links."""
        self.upper = upper
        self.directory = snapshots_directory(upper)
        self._xattrs = xattrs

    # -- looking ----------------------------------------------------------------------------------------------------------

    def below(self, layer: Path) -> tuple[int, ...]:
        """The snapshots below a layer, by number, the nearest first.

        Raises:
            OSError: EINVAL: its list is malformed.
        """
        try:
            value = os.getxattr(layer, self._xattrs.snapshots)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return ()
            raise
        try:
            return tuple(int(number) for number in value.split())
        except ValueError:
            raise OSError(errno.EINVAL, f"its list of snapshots is malformed: {value!r}", str(layer)) from None

    def chain(self) -> tuple[Path, ...]:
        """The layers below the upper that were the upper once, top first.

        Raises:
            OSError: ENOENT: one of them is not there.
        """
        return self.layers(self.below(self.upper))

    def layers(self, numbers: Iterable[int]) -> tuple[Path, ...]:
        """The layers of these snapshots.  ENOENT as `chain`."""
        return tuple(self._layer(number) for number in numbers)

    def kept_directory(self, number: int) -> Path:
        """Where a running union keeps what it needs of the layers that were merged into the snapshot ``number``."""
        return self.directory / f"{number}{_KEPT}"

    def kept_directories(self) -> list[Path]:
        """Those that are there."""
        return list(self.directory.glob(f"*{_KEPT}"))

    def _layer(self, number: int) -> Path:
        for name in (str(number), f"{number}{_NEW}"):
            layer = self.directory / name / _LAYER
            if layer.is_dir():
                return layer
        raise OSError(errno.ENOENT, f"snapshot {number}, which the upper needs, is not there", str(self.directory / str(number)))

    def all(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        return sorted((self.get(number) for number in self._numbers()), key=lambda snapshot: snapshot.about.created)

    def get(self, number: int) -> Snapshot:
        """The snapshot of that number.

        Raises:
            OSError: EINVAL: its description is malformed; ENOENT: there is none.
        """
        directory = self.directory / str(number)
        return Snapshot(number, directory / _LAYER, self.below(directory / _LAYER), _read_about(directory / _ABOUT))

    def find(self, text: str) -> Snapshot:
        """The snapshot that a user means by its number or its name; ENOENT if there is none."""
        for snapshot in self.all():
            if text in (str(snapshot.number), snapshot.about.name):
                return snapshot
        raise OSError(errno.ENOENT, "no snapshot of that name or number", text)

    def _made_with(self) -> int:
        """The number of the snapshot whose making made the upper; 0 if none did."""
        try:
            value = os.getxattr(self.upper, self._xattrs.made_with)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return 0
            raise
        try:
            return int(value)
        except ValueError:
            raise OSError(errno.EINVAL, f"its number of a snapshot is malformed: {value!r}", str(self.upper)) from None

    def _numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(int(name) for name in os.listdir(self.directory) if _FINISHED.fullmatch(name))
        return []

    # -- making -----------------------------------------------------------------------------------------------------------

    def stage(self, name: str | None, lowers: Iterable[Path]) -> Staged:
        """Begin a new snapshot, called ``name`` (None: by its number).

        Raises:
            OSError: EEXIST: another one has the name; EOPNOTSUPP: the upper cannot hold the list; what mkdir(2) gives.
        """
        present = self.all()
        # Not that of one that was removed, if the upper was made with it: that tells what `recover` is to finish.
        number = max(0, self._made_with(), *self._numbers(), *self.below(self.upper)) + 1
        name = name if name is not None else str(number)
        if any(name in (str(snapshot.number), snapshot.about.name) for snapshot in present):
            raise OSError(errno.EEXIST, "another snapshot has that name", name)
        if not name or (_FINISHED.fullmatch(name) and name != str(number)):
            raise OSError(errno.EINVAL, "a snapshot cannot be called so: it would be taken for a number", name)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        staged = Staged(self, number, About(name, time.time(), [str(path) for path in lowers]))
        staged.make(self._xattrs, (number, *self.below(self.upper)))
        return staged

    def start_over(self, staged: Staged, snapshot: Snapshot) -> None:
        """Let the upper that is staged be one over ``snapshot``, and not over all that there is now: a rollback."""
        _set_list(staged.upper, self._xattrs, (snapshot.number, *snapshot.below))
        staged.look_like(snapshot.layer, self._xattrs)

    def set_below(self, layer: Path, numbers: Iterable[int]) -> None:
        """Let a layer lie on these snapshots."""
        _set_list(layer, self._xattrs, numbers)

    def recover(self, work: Path | None, *, goes_on: bool = False) -> None:
        """Finish or remove what a crash left.  ``work`` is the work directory, if there is one.  ``goes_on``: a union in use goes
        on; what it has kept stays.

        Raises:
            OSError: what the filesystem says.
        """
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return
        made_with = self._made_with()
        for name in names:
            number = name.removesuffix(_NEW)
            if _FINISHED.fullmatch(name) or (goes_on and name.endswith(_KEPT)):
                continue
            directory = self.directory / name
            if name.endswith(_NEW) and _FINISHED.fullmatch(number) and int(number) == made_with:
                if work is not None and (work / "index").exists():
                    # It is of the old upper, or has nothing in it yet: a mount makes it anew.
                    shutil.rmtree(work / "index")
                staged = Staged(self, int(number), None)
                if staged.is_discarded:
                    shutil.rmtree(staged.set_aside())
                else:
                    staged.finish()
            else:
                shutil.rmtree(directory)
        for snapshot in self.all():
            self.finish_merge(snapshot)

    def finish_merge(self, snapshot: Snapshot) -> None:
        """Put what is built on the snapshots that ``snapshot`` replaces on that instead, one after the other, and remove them."""
        replaced = snapshot.about.replaces
        if replaced:
            self.replace_in_lists(replaced, snapshot.number)
        present = self._numbers()
        for number in replaced:
            if number in present:
                self.remove(number)

    def replace_in_lists(self, numbers: Sequence[int], number: int) -> None:
        """Let all that lies on ``numbers``, which lie upon each other, lie on ``number`` instead."""
        for layer in (self.upper, *(snapshot.layer for snapshot in self.all() if snapshot.number not in numbers)):
            below = self.below(layer)
            if numbers[0] not in below:
                continue
            start = below.index(numbers[0])
            if start == 0:
                # It names the root of the topmost lower layer; the next mount with an index notes the new one.  First: one that
                # names a layer which is not there any more forbids such a mount.
                self._xattrs.remove_origin(layer)
            _set_list(layer, self._xattrs, (*below[:start], number, *below[start + len(numbers) :]))

    def remove(self, number: int) -> None:
        """Remove a snapshot that nothing needs any more; atomic."""
        shutil.rmtree(self.set_aside(number))

    def set_aside(self, number: int) -> Path:
        """The first step of `remove`, and all that counts: where what was the snapshot is now.  It is removed by whoever has the
        time for that, or by `recover`."""
        return _set_aside(self.directory / str(number), number)


class Staged:
    """A snapshot in the making: `make`, put things into it, `exchange`, `finish`; or `discard` instead of the last two.

    Attributes:
        directory: where it is made.
        upper: the new upper until `exchange`, the frozen one afterwards.
        copies: directory for what stands for carried files.
    """

    def __init__(self, snapshots: Snapshots, number: int, about: About | None) -> None:
        self._snapshots = snapshots
        self.number = number
        self.about = about
        self.directory = snapshots.directory / f"{number}{_NEW}"
        self.upper = self.directory / _LAYER
        self.copies = self.directory / _COPIES
        self.final_layer = snapshots.directory / str(number) / _LAYER

    def make(self, xattrs: PrivateXattrs, below: tuple[int, ...]) -> None:
        """Make the directory, with a new upper that looks like the present one and lies over the snapshots ``below``."""
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(mode=0o700)
        try:
            self.copies.mkdir(mode=0o700)
            self.upper.mkdir(mode=0o700)
            _set_list(self.upper, xattrs, below)
            os.setxattr(self.upper, xattrs.made_with, b"%d" % self.number)
            self.look_like(self._snapshots.upper, xattrs)
        except OSError:
            self.discard()
            raise

    def look_like(self, layer: Path, xattrs: PrivateXattrs) -> None:
        """Give the new upper owner, attributes, mode and times of ``layer``; to be done last, for the times."""
        old, new = os.fspath(layer), os.fspath(self.upper)
        for name in os.listxattr(new):
            if not xattrs.is_private(os.fsencode(name)):
                os.removexattr(new, name)
        st = os.stat(old)
        os.chown(new, st.st_uid, st.st_gid)
        for name in os.listxattr(old):
            if not xattrs.is_private(os.fsencode(name)):
                os.setxattr(new, name, os.getxattr(old, name))
        os.chmod(new, st.st_mode & 0o7777)
        os.utime(new, ns=(st.st_atime_ns, st.st_mtime_ns))

    def carry(self, files: list[CarriedFile]) -> None:
        """Write down what `finish` is to replace."""
        listed = [[file.copy, [os.fsdecode(name) for name in file.names]] for file in files]
        (self.directory / _CARRIED).write_text(json.dumps(listed))

    def exchange(self, is_consistent: bool, sync: bool, *, keeps: bool = True) -> None:
        """The moment of the snapshot.  ``sync``: what is staged is durable before.  Without ``keeps`` what was the upper is to be
        removed: then `set_aside` is next, and not `finish`.

        Raises:
            OSError: EBUSY or EXDEV: the upper is a mount point.
        """
        assert self.about is not None
        self.about = dataclasses.replace(self.about, is_consistent=is_consistent)
        (self.directory / _ABOUT).write_text(json.dumps(dataclasses.asdict(self.about)))
        if not keeps:
            (self.directory / _DISCARDED).touch()
        if sync:
            _sync_tree(self.directory)
        renameat2(_AT_FDCWD, os.fsencode(self.upper), _AT_FDCWD, os.fsencode(self._snapshots.upper), RENAME_EXCHANGE)
        if sync:
            _sync(self._snapshots.upper.parent)
            _sync(self.directory)

    def finish(self) -> None:
        """Replace what was carried on, and give the snapshot its name.  May be done again after a crash.

        Raises:
            OSError: what the filesystem says.
        """
        with contextlib.suppress(FileNotFoundError):
            carried = json.loads((self.directory / _CARRIED).read_text())
            for copy, names in carried:
                for name in names:
                    self._replace(copy, os.fsencode(name))
        if self.copies.exists():
            shutil.rmtree(self.copies)
        (self.directory / _CARRIED).unlink(missing_ok=True)
        if (self.directory / "index").exists():
            shutil.rmtree(self.directory / "index")
        self._give_name()

    @property
    def is_discarded(self) -> bool:
        """Whether what was the upper is to be removed."""
        return (self.directory / _DISCARDED).exists()

    def set_aside(self) -> Path:
        """What was the upper is to be removed: where it is now, and stays until whoever has the time removes it, or `recover`."""
        return _set_aside(self.directory, self.number)

    def publish(self, sync: bool) -> None:
        """It is a layer that was made from others: nothing is to be exchanged.

        ``sync``: its names are durable before.  Its files are theirs, and whatever was made for it the maker has synced.
        """
        assert self.about is not None
        about = self.directory / _ABOUT
        about.write_text(json.dumps(dataclasses.asdict(self.about)))
        self.copies.rmdir()
        if sync:
            _sync(about, _OPEN_FILE)
            _sync_tree(self.directory, with_files=False)
        self._give_name()

    def _give_name(self) -> None:
        final = self.directory.with_name(str(self.number))
        renameat2(_AT_FDCWD, os.fsencode(self.directory), _AT_FDCWD, os.fsencode(final), RENAME_NOREPLACE)

    def _replace(self, copy: str, path: bytes) -> None:
        """Put ``copy`` in the place of a file of the frozen layer."""
        *directories, name = path.split(b"/")
        fd = os.open(self.upper, _OPEN_DIR)
        try:
            for directory in directories:
                below = os.open(directory, _OPEN_DIR, dir_fd=fd)
                os.close(fd)
                fd = below
            before = os.fstat(fd)
            spare = self.copies / "spare"
            spare.unlink(missing_ok=True)
            os.link(self.copies / copy, spare)
            os.rename(os.fsencode(spare), name, dst_dir_fd=fd)
            spare.unlink(missing_ok=True)  # rename(2) does nothing where both are one file already
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(fd)

    def discard(self) -> None:
        """It shall not be."""
        shutil.rmtree(self.directory)


def _set_aside(directory: Path, number: int) -> Path:
    return directory.rename(directory.with_name(f"{number}.gone"))


def _set_list(layer: Path, xattrs: PrivateXattrs, numbers: Iterable[int]) -> None:
    os.setxattr(layer, xattrs.snapshots, b" ".join(b"%d" % number for number in numbers))


def _sync_tree(directory: Path, with_files: bool = True) -> None:
    for path, _, names in os.walk(directory, topdown=False):
        for name in names if with_files else ():
            file = os.path.join(path, name)
            if not os.path.islink(file) and os.path.isfile(file):
                _sync(Path(file), _OPEN_FILE)
        _sync(Path(path))


def _sync(path: Path, flags: int = _OPEN_DIR) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_about(path: Path) -> About:
    try:
        about = About(**json.loads(path.read_bytes()))
        if not isinstance(about.name, str) or not isinstance(about.created, int | float):
            raise TypeError("name is a text, created a number")
        if not all(isinstance(lower, str) for lower in about.lowers) or not all(isinstance(old, int) for old in about.replaces):
            raise TypeError("lowers are texts, replaces numbers")
    except (ValueError, TypeError, RecursionError) as error:
        raise OSError(errno.EINVAL, f"the description of the snapshot is malformed: {error}", str(path)) from error
    return about
