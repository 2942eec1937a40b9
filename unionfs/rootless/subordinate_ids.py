"""The ids that a user may use in his user namespaces besides his own: /etc/subuid and /etc/subgid (subuid(5))."""

from __future__ import annotations

import contextlib
import pwd
from pathlib import Path

from unionfs.linux.user_namespaces import IdRange

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")


def id_maps(uid: int, gid: int) -> tuple[list[IdRange], list[IdRange]] | None:
    """How users and groups are to be mapped: root is the user, then come all his subordinate ids, in the order of the files.
    None where he has none of either kind.

    Raises:
        OSError: a file cannot be read.
    """
    names = {str(uid)}
    with contextlib.suppress(KeyError):  # a user by number alone may have a line as well
        names.add(pwd.getpwuid(uid).pw_name)
    uids, gids = _ranges(SUBUID, names), _ranges(SUBGID, names)
    if not uids or not gids:
        return None
    return _stacked(uid, uids), _stacked(gid, gids)


def _ranges(path: Path, names: set[str]) -> list[tuple[int, int]]:
    """First id and count of each line ``NAME:FIRST:COUNT`` of the user."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    fields = [line.strip().split(":") for line in lines]
    # newuidmap ignores malformed lines too (shadow, lib/subordinateio.c).
    mine = [each for each in fields if len(each) == 3 and each[0] in names and each[1].isdecimal() and each[2].isdecimal()]
    return [(int(first), int(count)) for _, first, count in mine if int(count)]


def _stacked(own: int, ranges: list[tuple[int, int]]) -> list[IdRange]:
    maps = [IdRange(0, own, 1)]
    for first, count in ranges:
        last = maps[-1]
        maps.append(IdRange(last.inside + last.length, first, count))
    return maps
