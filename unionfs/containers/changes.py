"""What a writable layer changes: added, modified and deleted paths, from the upper directory alone.

Only the upper is walked.  The lowers are asked for one name for each changed path, but for two cases that cannot be told
otherwise: below an opaque directory the names that it hides are listed (one directory each, not the trees below), and below a
directory that was moved there (``redirect``) everything is new, so that one tree is walked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from unionfs.containers.lower_lookup import DOT_OPAQUE, DOT_WHITEOUT, Found, LowerStack, Marks, RealDirectory

Kind = Literal["A", "M", "D"]

_ATTRIBUTES = ("st_mode", "st_uid", "st_gid", "st_mtime_ns")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Change(NamedTuple):
    """One path that differs from the layers below.  ``path`` is absolute in the root filesystem; of a deleted directory only the
    directory itself is named."""

    kind: Kind
    path: str


def changes_of(upper: Path, lowers: Sequence[Path], *, user: bool) -> list[Change]:
    """What the upper directory changes in the union of ``lowers`` (top first), sorted by path as ``docker diff`` sorts.

    ``user``: the marks are in ``user.overlay.``.

    Raises:
        OSError: a layer cannot be read.
    """
    return sorted(_Walk(LowerStack(lowers, Marks(user)), Marks(user)).changes(upper), key=lambda change: change.path.split("/"))


def changes_by_origin(upper: Path, *, user: bool) -> list[Change]:
    """The same of an upper directory whose lowers are not known: what was copied up says so itself (attribute ``origin``),
    everything else counts as added.  So a file that was deleted and made anew is "A" here.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(_OriginWalk(Marks(user)).changes(upper), key=lambda change: change.path.split("/"))


class _Walk:
    """A walk through an upper directory.  All in it is reached by descriptors: a container may be at work there."""

    def __init__(self, lowers: LowerStack, marks: Marks) -> None:
        self._lowers = lowers
        self._marks = marks

    def changes(self, upper: Path) -> Iterator[Change]:
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from self._directory(fd, "", self._lowers.root, is_opaque=False)
        finally:
            os.close(fd)

    def _directory(self, fd: int, path: str, below: Sequence[RealDirectory], *, is_opaque: bool) -> Iterator[Change]:
        """``below``: what lies under this directory; with ``is_opaque`` it is not merged, and all of it that is not here is
        gone."""
        seen = set()
        for name in sorted(os.listdir(fd)):
            if name == DOT_OPAQUE:
                continue
            if name.startswith(DOT_WHITEOUT):
                hidden = name.removeprefix(DOT_WHITEOUT)
                if not is_opaque and self._lowers.find(below, hidden).status is not None:
                    yield Change("D", f"{path}/{hidden}")
                continue
            seen.add(name)
            yield from self._name(fd, name, path, below, is_opaque=is_opaque)
        if is_opaque:
            yield from (Change("D", f"{path}/{name}") for name in self._lowers.names(below) if name not in seen)

    def _name(self, fd: int, name: str, path: str, below: Sequence[RealDirectory], *, is_opaque: bool) -> Iterator[Change]:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:  # gone meanwhile
            return
        found = self._lowers.find(below, name)
        place = f"{path}/{name}"
        if self._marks.is_whiteout(f"/proc/self/fd/{fd}/{name}", status):
            if found.status is not None:
                yield Change("D", place)
        elif stat.S_ISDIR(status.st_mode):
            yield from self._subdirectory(fd, name, place, below, found, is_opaque=is_opaque)
        else:
            yield Change("A" if found.status is None else "M", place)

    def _subdirectory(
        self, fd: int, name: str, place: str, below: Sequence[RealDirectory], found: Found, *, is_opaque: bool
    ) -> Iterator[Change]:
        child = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            real = f"/proc/self/fd/{child}/."
            redirect = self._marks.get(real, "redirect")
            if redirect and not is_opaque:
                yield Change("A" if found.status is None else "M", place)
                moved = self._lowers.redirected(below, -1, os.fsdecode(redirect))
                yield from self._moved(child, place, moved, found)
                return
            inside = list(self._directory(child, place, found.directories, is_opaque=is_opaque or self._marks.is_opaque(real)))
            if found.status is None:
                yield Change("A", place)
            elif inside or _differ(os.fstat(child), found.status):
                yield Change("M", place)
            yield from inside
        finally:
            os.close(child)

    def _moved(self, fd: int, place: str, moved: Sequence[RealDirectory], replaced: Found) -> Iterator[Change]:
        """Below a directory that came from elsewhere: what it merges with there, against what its new name had before."""
        names = {name for name in os.listdir(fd) if not name.startswith(DOT_WHITEOUT)} | set(self._lowers.names(moved))
        shown = set()
        for name in sorted(names):
            before = self._lowers.find(replaced.directories, name)
            status = _status(name, fd)
            if status is not None and self._marks.is_whiteout(f"/proc/self/fd/{fd}/{name}", status):
                continue
            if status is None and f"{DOT_WHITEOUT}{name}" in os.listdir(fd):
                continue
            shown.add(name)
            yield Change("A" if before.status is None else "M", f"{place}/{name}")
            yield from self._below_moved(fd, name, f"{place}/{name}", moved, before, status)
        yield from (Change("D", f"{place}/{name}") for name in self._lowers.names(replaced.directories) if name not in shown)

    def _below_moved(
        self, fd: int, name: str, place: str, moved: Sequence[RealDirectory], before: Found, status: os.stat_result | None
    ) -> Iterator[Change]:
        if status is not None and not stat.S_ISDIR(status.st_mode):
            return
        if status is None:
            yield from self._all_below(place, self._lowers.find(moved, name).directories, before)
            return
        child = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            real = f"/proc/self/fd/{child}/."
            redirect = self._marks.get(real, "redirect")
            if redirect:
                directories = self._lowers.redirected(moved, -1, os.fsdecode(redirect))
            else:
                directories = [] if self._marks.is_opaque(real) else self._lowers.find(moved, name).directories
            yield from self._moved(child, place, directories, before)
        finally:
            os.close(child)

    def _all_below(self, place: str, directories: Sequence[RealDirectory], before: Found) -> Iterator[Change]:
        names = list(self._lowers.names(directories))
        for name in names:
            old = self._lowers.find(before.directories, name)
            yield Change("A" if old.status is None else "M", f"{place}/{name}")
            yield from self._all_below(f"{place}/{name}", self._lowers.find(directories, name).directories, old)
        kept = set(names)
        yield from (Change("D", f"{place}/{name}") for name in self._lowers.names(before.directories) if name not in kept)


class _OriginWalk:
    """A walk where nothing is known of the layers below."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def changes(self, upper: Path) -> Iterator[Change]:
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from self._directory(fd, "")
        finally:
            os.close(fd)

    def _directory(self, fd: int, path: str) -> Iterator[Change]:
        for name in sorted(os.listdir(fd)):
            if name == DOT_OPAQUE:
                continue
            if name.startswith(DOT_WHITEOUT):
                yield Change("D", f"{path}/{name.removeprefix(DOT_WHITEOUT)}")
                continue
            yield from self._name(fd, name, f"{path}/{name}")

    def _name(self, fd: int, name: str, place: str) -> Iterator[Change]:
        real = f"/proc/self/fd/{fd}/{name}"
        status = _status(name, fd)
        if status is None:
            return
        if self._marks.is_whiteout(real, status):
            yield Change("D", place)
            return
        # A directory that was moved here has an origin too, of its old place.
        is_old = self._marks.get(real, "origin") is not None and not self._marks.get(real, "redirect")
        yield Change("M" if is_old else "A", place)
        if stat.S_ISDIR(status.st_mode):
            child = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                yield from self._directory(child, place)
            finally:
                os.close(child)


def _status(name: str, dir_fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _differ(one: os.stat_result, other: os.stat_result) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in _ATTRIBUTES)
