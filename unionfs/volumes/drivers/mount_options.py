"""What ``o=`` of the local driver means: words of mount(8) for mount(2), as docker hands them on (github.com/moby/sys/mount)."""

from __future__ import annotations

from typing import NamedTuple

from unionfs.linux import mount as m

_FLAGS: dict[str, tuple[bool, int]] = {
    # word: (whether it clears, the bits)
    "defaults": (False, 0),
    "ro": (False, m.MS_RDONLY),
    "rw": (True, m.MS_RDONLY),
    "nosuid": (False, m.MS_NOSUID),
    "suid": (True, m.MS_NOSUID),
    "nodev": (False, m.MS_NODEV),
    "dev": (True, m.MS_NODEV),
    "noexec": (False, m.MS_NOEXEC),
    "exec": (True, m.MS_NOEXEC),
    "sync": (False, m.MS_SYNCHRONOUS),
    "async": (True, m.MS_SYNCHRONOUS),
    "dirsync": (False, m.MS_DIRSYNC),
    "noatime": (False, m.MS_NOATIME),
    "atime": (True, m.MS_NOATIME),
    "nodiratime": (False, m.MS_NODIRATIME),
    "diratime": (True, m.MS_NODIRATIME),
    "relatime": (False, m.MS_RELATIME),
    "norelatime": (True, m.MS_RELATIME),
    "strictatime": (False, m.MS_STRICTATIME),
    "nostrictatime": (True, m.MS_STRICTATIME),
    "bind": (False, m.MS_BIND),
    "rbind": (False, m.MS_BIND | m.MS_REC),
}
_FOR_MOUNT_PROGRAMS = frozenset({"auto", "noauto", "user", "nouser", "users", "_netdev", "nofail"})
"""Words that mean something in fstab(5) only; the kernel would refuse them."""


class MountWords(NamedTuple):
    """``flags`` of mount(2), and ``data``, what is left for the filesystem."""

    flags: int
    data: str


def parse_words(text: str) -> MountWords:
    """The meaning of ``rw,noatime,size=1m``: what mount(2) has no flag for is the filesystem's own."""
    flags = 0
    data = []
    for word in text.split(","):
        if word in _FLAGS:
            clears, bits = _FLAGS[word]
            flags = flags & ~bits if clears else flags | bits
        elif word and word not in _FOR_MOUNT_PROGRAMS:
            data.append(word)
    return MountWords(flags, ",".join(data))


def without_secrets(text: str) -> str:
    """``text`` with the value of ``password=`` made unreadable, for error messages and listings."""
    words = text.split(",")
    return ",".join("password=********" if word.startswith("password=") else word for word in words)
