"""The user that ``USER[:GROUP]`` means inside an image: passwd(5), group(5)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.openat2 import open_in_root
from unionfs.store.errors import StoreError

_MOST_BYTES = 10 << 20  # what an image holds is not to be trusted
_HIGHEST_ID = (1 << 32) - 2  # the highest that is no error value
_LONGEST_ID = 10  # digits: the time that int() takes grows faster than their number


class User(NamedTuple):
    """Who a process in a container is."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_user(rootfs: Path, given: str) -> User:
    """The user ``given`` (``USER[:GROUP]``, each a name or a number; empty: root) of the root filesystem at ``rootfs``.

    A number need not be in /etc/passwd; without a line there the group is 0, as in docker.

    Raises:
        StoreError: a name is in neither file.
        OSError: the root filesystem cannot be read.
    """
    name, _, group = given.partition(":")
    passwd = [line for line in _table(rootfs, "etc/passwd") if len(line) >= 6 and _is_id(line[2]) and _is_id(line[3])]
    groups = [line for line in _table(rootfs, "etc/group") if len(line) >= 3 and _is_id(line[2])]
    entry = _entry(passwd, name or "0")
    if entry is None and not _is_id(name or "0"):
        raise StoreError(name, "no such user in the image's /etc/passwd", "name one that is there, or give a number (--user)")
    uid = int(entry[2]) if entry else int(name or "0")
    home = entry[5] or "/" if entry else "/"
    if group:
        group_entry = _entry(groups, group)
        if group_entry is None and not _is_id(group):
            raise StoreError(
                group, "no such group in the image's /etc/group", "name one that is there, or give a number (--user)"
            )
        return User(uid, int(group_entry[2]) if group_entry else int(group), (), home)
    gid = int(entry[3]) if entry else 0
    others = {int(line[2]) for line in groups if entry and len(line) >= 4 and entry[0] in line[3].split(",")}
    return User(uid, gid, tuple(sorted(others | {gid})), home)


def _is_id(text: str) -> bool:
    # An image's file may hold any digits: those of other scripts, more than int() takes, ids that no process can have.
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID and int(text) <= _HIGHEST_ID


def _entry(lines: list[list[str]], wanted: str) -> list[str] | None:
    by_name = next((line for line in lines if line[0] == wanted), None)
    if by_name is not None or not _is_id(wanted):
        return by_name
    return next((line for line in lines if int(line[2]) == int(wanted)), None)


def _table(rootfs: Path, path: str) -> list[list[str]]:
    """The lines of a file of fields; none if there is no such file."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: it may be a FIFO.
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return []
    finally:
        os.close(root)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return []
        text = file.read(_MOST_BYTES).decode(errors="surrogateescape")
    return [line.strip().split(":") for line in text.split("\n") if line.strip() and not line.startswith("#")]
