"""Values of the options that say whose the objects of a union are: ``uidmapping`` and the like."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from unionfs.overlay.id_map import IdRange
from unionfs.overlay.options import Overrides

_LARGEST_ID = 0xFFFFFFFE
"""(uid_t)-1 is no id: chown(2)."""
_OVERRIDES: dict[str, Overrides] = {"0": "none", "1": "privileged", "2": "containers"}


def parse_id(value: str) -> int:
    """A uid or gid.  ``ValueError``: what is wanted instead."""
    if not (value.isascii() and value.isdecimal() and len(value) <= len(str(_LARGEST_ID)) and int(value) <= _LARGEST_ID):
        raise ValueError(f"an id from 0 to {_LARGEST_ID}")
    return int(value)


def parse_mapping(value: str) -> tuple[IdRange, ...]:
    """``STORED:SHOWN:LENGTH`` once or several times with colons between them; podman begins with one more.  ``ValueError``: what
    is wanted instead."""
    fields = [field for field in value.split(":") if field]
    try:
        numbers = [parse_id(field) for field in fields]
    except ValueError:
        numbers = []
    ranges = tuple(IdRange(*numbers[start : start + 3]) for start in range(0, len(numbers) - len(numbers) % 3, 3))
    if not ranges or len(numbers) % 3:
        raise ValueError("triples of numbers, ID-ON-DISK:ID-SHOWN:LENGTH, with colons between them (0:100000:65536)")
    if any(not found.length or max(found.stored, found.shown) + found.length - 1 > _LARGEST_ID for found in ranges):
        raise ValueError(f"lengths above 0 and ids up to {_LARGEST_ID}")
    if _overlap((found.stored, found.length) for found in ranges) or _overlap((found.shown, found.length) for found in ranges):
        raise ValueError("ranges in which no id occurs twice")
    return ranges


def _overlap(ranges: Iterable[tuple[int, int]]) -> bool:
    ordered = sorted(ranges)
    return any(start + length > following for (start, length), (following, _) in pairwise(ordered))


def parse_overrides(value: str) -> Overrides:
    """``xattr_permissions``.  ``ValueError``: what is wanted instead."""
    if value not in _OVERRIDES:
        raise ValueError("0 (real owners count), 1 (owners in security.fuseoverlayfs.override_stat) or 2 (in user.containers.…)")
    return _OVERRIDES[value]
