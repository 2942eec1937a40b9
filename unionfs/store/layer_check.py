"""Whether an unpacked layer is what its tar says: contents, and all that a file is besides.

The digest tells about contents alone; owners, modes, times, attributes, types and names of the unpacked files are compared with
those of a skeleton: the tar unpacked again, without the data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from unionfs.store import overlay_format
from unionfs.store.chunks import stream_of
from unionfs.store.digest import Digest
from unionfs.store.errors import CorruptError
from unionfs.store.recipe import reassemble
from unionfs.store.skipped import Skipped
from unionfs.store.unpack import unpack_layer

_SHOWN = 5
_REMEDY = "remove the images that use it, import them again"


def check_layer(diff_id: Digest, diff: Path, recipe: Path, skipped: Skipped | None, workspace: Path) -> None:
    """Compare the layer at ``diff`` with its tar.  ``skipped``: what its import left out.  ``workspace``: an empty directory on
    the same filesystem, for the skeleton.

    Raises:
        CorruptError: something was changed; the first few differences are named.
        OSError: it cannot be read, or there is no room for the skeleton.
    """
    thing = f"layer {diff_id}"
    if not diff.is_dir():
        raise CorruptError(thing, f"its directory {diff} is gone", _REMEDY)
    skeleton = workspace / "diff"
    skeleton.mkdir(0o755)
    tar = stream_of(reassemble(diff, recipe))
    made = unpack_layer(tar, skeleton, workspace / "recipe", thing=thing, needs_end=False, with_content=False)
    left_out = {name for one in (skipped, made.skipped) if one is not None for name in one.what}
    found = list(_Comparison(skeleton, diff, made.directories, left_out).run())
    if made.diff_id != diff_id:
        found.insert(0, f"the digest of its contents is {made.diff_id}")
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise CorruptError(thing, f"was changed: {'; '.join(found[:_SHOWN])}{more}", _REMEDY)


_Status = os.stat_result


def _owner(st: _Status) -> object:
    return f"{st.st_uid}:{st.st_gid}"


def _mode(st: _Status) -> object:
    return f"{stat.S_IMODE(st.st_mode):04o}"


def _time(st: _Status) -> object:
    return st.st_mtime_ns / 10**9


def _identity(st: _Status) -> tuple[int, int]:
    return st.st_dev, st.st_ino


def _device(st: _Status) -> object:
    is_device = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
    return f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}" if is_device else None


_WHITEOUT = "a whiteout"
_TYPES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
}


class _Comparison:
    """Of two directories: what there should be, what there is."""

    def __init__(self, wanted: Path, found: Path, directories: frozenset[bytes], left_out: set[str]) -> None:
        """``directories``: those whose owner, mode and time the tar tells.  ``left_out``: what is not compared."""
        self._wanted = os.fsencode(wanted)
        self._found = os.fsencode(found)
        self._directories = directories
        self._left_out = left_out
        self._links: dict[tuple[int, int], tuple[int, int]] = {}
        self._reverse: dict[tuple[int, int], tuple[int, int]] = {}

    def run(self) -> Iterator[str]:
        """The differences, each with the path in the layer."""
        yield from self._object(b"")

    def _object(self, path: bytes) -> Iterator[str]:
        wanted, found = os.lstat(self._at(self._wanted, path)), os.lstat(self._at(self._found, path))
        types = self._type(self._wanted, path, wanted), self._type(self._found, path, found)
        if types[0] != types[1]:
            yield _difference(path, "type", *types)
        elif types[0] != _WHITEOUT:  # which has neither owner nor time, and two forms
            yield from self._same_type(path, wanted, found)

    def _type(self, top: bytes, path: bytes, st: _Status) -> str:
        if overlay_format.is_whiteout(self._at(top, path), st):
            return _WHITEOUT
        return _TYPES[stat.S_IFMT(st.st_mode)]

    def _same_type(self, path: bytes, wanted: _Status, found: _Status) -> Iterator[str]:
        for name, figure in self._figures(path, wanted).items():
            if figure(wanted) != figure(found):
                yield _difference(path, name, figure(wanted), figure(found))
        if stat.S_ISLNK(wanted.st_mode):
            yield from _compared(path, "target", *(os.readlink(self._at(top, path)) for top in (self._wanted, self._found)))
        elif not stat.S_ISDIR(wanted.st_mode):
            yield from self._names_of_one_file(path, _identity(wanted), _identity(found))
        yield from self._attributes(path)
        if stat.S_ISDIR(wanted.st_mode):
            yield from self._inside(path)

    def _figures(self, path: bytes, wanted: _Status) -> dict[str, Callable[[_Status], object]]:
        """What of the object the tar tells."""
        if stat.S_ISDIR(wanted.st_mode) and path not in self._directories:
            return {}
        figures: dict[str, Callable[[_Status], object]] = {"device": _device, "mode": _mode, "time of modification": _time}
        if stat.S_ISREG(wanted.st_mode):
            figures["size"] = lambda st: st.st_size
        if "owner" not in self._left_out:
            figures["owner"] = _owner
        return figures

    def _names_of_one_file(self, path: bytes, wanted: tuple[int, int], found: tuple[int, int]) -> Iterator[str]:
        """Hard links: names of one file there are names of one file here, and the other way round."""
        if self._links.setdefault(wanted, found) != found:
            yield f"{os.fsdecode(path)!r} is no other name of the same file any more"
        elif self._reverse.setdefault(found, wanted) != wanted:
            yield f"{os.fsdecode(path)!r} is another name of a file that it was not"

    def _attributes(self, path: bytes) -> Iterator[str]:
        wanted, found = (self._xattrs(self._at(top, path)) for top in (self._wanted, self._found))
        for name in sorted(wanted.keys() | found.keys()):
            if name not in self._left_out:
                yield from _compared(path, f"attribute {name}", wanted.get(name), found.get(name))

    def _xattrs(self, path: bytes) -> dict[str, bytes]:
        """All but the marks of a union, of which a layer that was an upper may have more; one counts: whether it is opaque."""
        names = [name for name in os.listxattr(path, follow_symlinks=False) if overlay_format.shown_name(name) is not None]
        found = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        return found | ({"opaque": b"y"} if overlay_format.is_opaque(path) else {})

    def _inside(self, path: bytes) -> Iterator[str]:
        wanted, found = (set(os.listdir(self._at(top, path))) for top in (self._wanted, self._found))
        for name in sorted(wanted | found):
            inner = os.path.join(path, name)
            if name not in found:
                yield f"{os.fsdecode(inner)!r} is gone"
            elif name not in wanted:
                if stat.S_ISSOCK(os.lstat(self._at(self._found, inner)).st_mode):
                    continue  # which no tar can have
                yield f"{os.fsdecode(inner)!r} is none of its files"
            else:
                yield from self._object(inner)

    def _at(self, top: bytes, path: bytes) -> bytes:
        return os.path.join(top, path) if path else top


def _compared(path: bytes, what: str, wanted: object, found: object) -> Iterator[str]:
    if wanted != found:
        yield _difference(path, what, wanted, found)


def _difference(path: bytes, what: str, wanted: object, found: object) -> str:
    return f"{os.fsdecode(path) or '.'!r}: {what} is {found}, was {wanted}"
