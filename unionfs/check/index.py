"""Rule: the index (``work/index``), which keeps the names of one lower file together after copy-up.

The name of an entry is the origin of the object in hexadecimal; a file there is one more name of the upper object, a directory
has the attribute ``upper`` instead, a whiteout says that the object was removed (fs/overlayfs/namei.c, ovl_verify_index).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from unionfs.check.checked_stack import CheckedStack
from unionfs.check.finding import Finding, Repair
from unionfs.check.work_files import is_whiteout, names_in, stray
from unionfs.linux.handles import AT_EMPTY_PATH, name_to_handle_at, open_by_handle_at
from unionfs.overlay import kinds
from unionfs.overlay.layer import Layer
from unionfs.overlay.listing import kind_of
from unionfs.overlay.origin import decode, malformation

_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+")
_TO_REMOVE = "look whether its contents are of use, then remove it"


def index(stack: CheckedStack, work: Path) -> Iterator[Finding]:
    """Findings ``foreign-index``, ``bad-index-entry``, ``stray-index-entry`` and ``stray-work-file``."""
    directory = work / "index"
    names = names_in(directory)
    if names:
        yield from _foreign(stack, directory)
    for name in names:
        if not name.startswith("#"):
            yield from _entry(stack, directory / name)
        elif not is_whiteout(directory / name):  # the kernel leaves the whiteout that it makes all others of
            yield stray(directory / name)


def _foreign(stack: CheckedStack, directory: Path) -> Iterator[Finding]:
    """An upper or a lower that was copied: its handles, and with them the whole index, mean nothing any more."""
    remedy = "mount without index, or start with a fresh work directory"
    if _means_another(stack.marks(os.fsencode(directory)).get(b"upper", b""), stack.upper, of_upper=True):
        yield Finding("foreign-index", directory, f"belongs to another upper than {stack.upper.path}", remedy)
    if stack.lowers:
        origin = stack.marks(b"/proc/self/fd/%d" % stack.upper.root.fd, follow=True).get(b"origin", b"")
        if _means_another(origin, stack.lowers[0], of_upper=False):
            problem = f"was made with another topmost lower than {stack.lowers[0].path}"
            yield Finding("foreign-index", directory, problem, remedy)


def _means_another(value: bytes, layer: Layer, of_upper: bool) -> bool:
    decoded = decode(value, of_upper)
    if decoded is None:
        return False
    kind, _, handle = decoded
    return name_to_handle_at(layer.root.fd, b"", AT_EMPTY_PATH) != (kind, handle)


def _entry(stack: CheckedStack, path: Path) -> Iterator[Finding]:
    st = path.lstat()
    kind = kind_of(st)
    marks = stack.marks(os.fsencode(path))
    value = bytes.fromhex(path.name) if _HEXADECIMAL.fullmatch(path.name) else b""
    if not value or malformation(value) is not None:
        yield _bad(path, st, "has a name that is no file handle in hexadecimal")
    elif kind == kinds.WHT:
        return
    elif kind == kinds.DIR:
        yield from _directory(stack, path, marks)
    elif marks.get(b"origin") != value:
        yield _bad(path, st, "has another origin than its name says")
    elif marks.get(b"nlink") == b"U-%d" % st.st_nlink:
        problem = "is of a file that has no name left"
        yield Finding("stray-index-entry", path, problem, repair=Repair("remove it", lambda: os.unlink(path)))


def _directory(stack: CheckedStack, path: Path, marks: dict[bytes, bytes]) -> Iterator[Finding]:
    decoded = decode(marks.get(b"upper", b""), of_upper=True)
    if decoded is None:
        yield Finding("bad-index-entry", path, "does not say which directory it is of", _TO_REMOVE)
        return
    kind, _, handle = decoded
    try:
        os.close(open_by_handle_at(stack.upper.root.fd, kind, handle, os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ESTALE:
            problem = "is of a directory that is gone"
            yield Finding("stray-index-entry", path, problem, repair=Repair("remove it", lambda: os.rmdir(path)))
        elif error.errno != errno.EPERM:  # no right to open by handle: not to be told then
            raise


def _bad(path: Path, st: os.stat_result, problem: str) -> Finding:
    if kind_of(st) != kinds.DIR and st.st_nlink > 1:
        what = "remove it; its contents stay under the other name"
        return Finding("bad-index-entry", path, problem, repair=Repair(what, lambda: os.unlink(path)))
    return Finding("bad-index-entry", path, problem, _TO_REMOVE)
