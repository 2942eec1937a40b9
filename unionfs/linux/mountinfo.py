"""The mounts of a process: /proc/PID/mountinfo (format: proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount.  ``device`` is the ``st_dev`` of the filesystem; ``root`` the path inside it which is mounted.

    ``options`` are those of the mount (``rw,noatime``), ``super_options`` those of the filesystem; both comma-separated.
    ``tags`` are its optional fields, which tell what it shares with other mounts: ``shared:7``, ``master:7``.
    Octal escapes are decoded; bytes that are not UTF-8 are kept as `os.fsdecode` does.
    """

    id: int
    parent: int
    device: int
    root: str
    mount_point: Path
    options: str
    fstype: str
    source: str
    super_options: str
    tags: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Mounts made in it appear in its peers, and the other way round."""
        return any(tag.startswith("shared:") for tag in self.tags)

    @property
    def is_slave(self) -> bool:
        """Mounts made in its master appear in it."""
        return any(tag.startswith("master:") for tag in self.tags)


def read_mountinfo(path: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """All mounts, in the order of the file: a later one covers an earlier one with the same ``mount_point``.

    Raises:
        OSError: ENOENT (no such process, or /proc is not mounted), EACCES.
    """
    return [_parse_line(line) for line in path.read_bytes().splitlines()]


def mount_id(path: Path) -> int:
    """The `Mount.id` of the mount that ``path`` leads to.

    Raises:
        OSError: as open(2) with O_PATH.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount_id_of(fd)
    finally:
        os.close(fd)


def mount_id_of(fd: int) -> int:
    """The `Mount.id` of the mount that an open file is on."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        if line.startswith("mnt_id:"):  # proc_pid_fdinfo(5)
            return int(line.split()[1])
    raise LookupError("/proc/self/fdinfo has no mnt_id")


def _parse_line(line: bytes) -> Mount:
    # Fields 1-6, any number of propagation tags, a lone "-", fields 8-10.  A space inside a field is escaped, so that splitting
    # is safe; a source may be empty.
    mount_part, _, super_part = line.partition(b" - ")
    number, parent, device, root, mount_point, options, *tags = mount_part.split(b" ")
    fstype, source, super_options = super_part.split(b" ", 2)
    major, minor = device.split(b":")
    return Mount(
        int(number),
        int(parent),
        os.makedev(int(major), int(minor)),
        _decode(root),
        Path(_decode(mount_point)),
        _decode(options),
        _decode(fstype),
        _decode(source),
        _decode(super_options),
        tuple(map(_decode, tags)),
    )


def _decode(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes((int(match[1], 8),)), field))
