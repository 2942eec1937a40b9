"""Rule: attributes of the union whose value, or whose place, means nothing.

Sources of the formats: Documentation/filesystems/overlayfs.rst, fs/overlayfs/{namei,util,overlayfs.h,super}.c.  A repair removes
or corrects only what neither the kernel nor unionfs takes any notice of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from unionfs.check.checked_stack import CheckedStack, Found, Visited
from unionfs.check.finding import Finding, Repair, Severity
from unionfs.overlay import kinds
from unionfs.overlay.layer import RealDir
from unionfs.overlay.origin import UNKNOWN, malformation
from unionfs.overlay.private_xattrs import HAS_XATTR_WHITEOUTS, HIDES_ALL

_NLINK = re.compile(rb"[UL][+-][0-9]{1,10}", re.DOTALL)
_DIGEST_HEADER = 4  # bytes: version, length of the whole, flags, algorithm
_ALL = frozenset((kinds.FIFO, kinds.CHR, kinds.DIR, kinds.BLK, kinds.REG, kinds.LNK, kinds.SOCK, kinds.WHT))


class _Mark(NamedTuple):
    """An attribute: on which types of objects it may be, what is wrong with a value (None: nothing), and how that is repaired:
    by this value, by removing it (None), or not at all (`_BY_HAND`)."""

    kinds: frozenset[int]
    problem: Callable[[bytes], str | None]
    repair: bytes | str | None


_BY_HAND = "by hand"


def _one_of(*values: bytes) -> Callable[[bytes], str | None]:
    expected = " or ".join(value.decode() for value in values)
    return lambda value: None if value in values else f"is {value!r} and not {expected}"


def _metacopy(value: bytes) -> str | None:
    if not value:
        return None
    if len(value) < _DIGEST_HEADER or value[0] != 0 or value[1] != len(value):
        return f"is no digest header: {value[:_DIGEST_HEADER].hex(' ')}, {len(value)} bytes"
    return None


def _nlink(value: bytes) -> str | None:
    return None if _NLINK.fullmatch(value) else f"is {value!r}, no link count like U+1"


def _protattr(value: bytes) -> str | None:
    return None if value.strip(b"ai") == b"" else f"is {value!r}, with other letters than a and i"


def _uuid(value: bytes) -> str | None:
    return None if len(value) == 16 else f"has {len(value)} bytes, and a UUID 16"


def _numbers(value: bytes) -> str | None:
    return None if all(word.isdigit() for word in value.split()) else f"is {value!r}, and no numbers of snapshots"


def _anything(_value: bytes) -> str | None:
    return None


_MARKS = {
    b"opaque": _Mark(frozenset((kinds.DIR,)), _one_of(HIDES_ALL, HAS_XATTR_WHITEOUTS), None),
    b"impure": _Mark(frozenset((kinds.DIR,)), _one_of(b"y"), b"y"),
    b"origin": _Mark(_ALL, malformation, UNKNOWN),
    b"metacopy": _Mark(frozenset((kinds.REG,)), _metacopy, _BY_HAND),
    b"nlink": _Mark(_ALL - {kinds.DIR}, _nlink, None),
    b"protattr": _Mark(_ALL, _protattr, _BY_HAND),
    b"uuid": _Mark(frozenset((kinds.DIR,)), _uuid, None),
    b"whiteout": _Mark(frozenset((kinds.REG,)), _anything, None),
    # The value is the business of unionfs.check.redirects.
    b"redirect": _Mark(frozenset((kinds.DIR, kinds.REG)), _anything, None),
    # Ours: unionfs.overlay.snapshots and snapshot_origins.
    b"unionfs.snapshots": _Mark(frozenset((kinds.DIR,)), _numbers, _BY_HAND),
    b"unionfs.made-with": _Mark(frozenset((kinds.DIR,)), _numbers, _BY_HAND),
    b"unionfs.origin": _Mark(_ALL, malformation, None),
}
_ON_ROOT_ONLY = frozenset((b"uuid", b"unionfs.snapshots", b"unionfs.made-with"))
_IN_INDEX_ONLY = b"upper"


def attribute_values(stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
    """Findings ``bad-attribute``, ``misplaced-attribute`` and ``unknown-attribute`` (a note)."""
    if not visited.itself.name:
        yield from _of_object(stack, visited.real, visited.itself)
    for found in visited.objects:
        yield from _of_object(stack, visited.real, found)


def _of_object(stack: CheckedStack, place: RealDir, found: Found) -> Iterator[Finding]:
    for name, value in found.marks.items():
        mark = _MARKS.get(name)
        full = (stack.xattrs.prefix + name).decode(errors="backslashreplace")
        if _is_misplaced(found, name, mark):
            repair = Repair(f"remove {full}", _remover(stack, place, found, name))
            yield Finding("misplaced-attribute", found.path, f"has the attribute {full}, which means nothing there", None, repair)
        elif mark is None:
            problem = f"has the attribute {full}, which is unknown"
            yield Finding("unknown-attribute", found.path, problem, "keep it for the program that wrote it", None, Severity.NOTE)
        else:
            wrong = mark.problem(value)
            if wrong is not None:
                yield _bad_value(stack, place, found, name, f"{full} {wrong}")


def _is_misplaced(found: Found, name: bytes, mark: _Mark | None) -> bool:
    if name == _IN_INDEX_ONLY or (name in _ON_ROOT_ONLY and found.name):
        return True
    if name == b"whiteout" and not found.is_xattr_whiteout:
        return True
    return mark is not None and found.kind not in mark.kinds


def _bad_value(stack: CheckedStack, place: RealDir, found: Found, name: bytes, problem: str) -> Finding:
    better = _MARKS[name].repair
    if isinstance(better, str):
        remedy = "restore the attribute or the file" if name == b"metacopy" else "correct it (setfattr)"
        return Finding("bad-attribute", found.path, problem, remedy)
    if better is None:
        repair = Repair("remove it, as it has no effect", _remover(stack, place, found, name))
    else:
        repair = Repair(f"set it to {better.decode() or 'nothing'}", lambda: stack.set_mark(place, found.name, name, better))
    return Finding("bad-attribute", found.path, problem, None, repair)


def _remover(stack: CheckedStack, place: RealDir, found: Found, name: bytes) -> Callable[[], None]:
    return lambda: stack.remove_mark(place, found.name, name)
