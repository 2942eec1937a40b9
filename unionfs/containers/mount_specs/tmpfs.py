"""``--tmpfs``: ``TARGET[:OPTION,…]``, options of mount(8) for a tmpfs."""

from __future__ import annotations

import re

from unionfs.containers.mount_specs.rules import clean_target
from unionfs.containers.mount_specs.spec import Kind, MountSpec
from unionfs.store.errors import wrong_usage

_WORDS = frozenset(
    {
        "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync",
        "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    }
)  # fmt: skip
_SIZE = re.compile(r"[0-9]+[kKmMgG%]?")
_VALUES = {
    "size": _SIZE,
    "nr_blocks": _SIZE,
    "nr_inodes": _SIZE,
    "mode": re.compile(r"[0-7]{1,5}"),
    "uid": re.compile(r"[0-9]+"),
    "gid": re.compile(r"[0-9]+"),
    "mpol": re.compile(r"[a-z:=0-9,-]+"),
}
"""tmpfs(5)."""


def parse_tmpfs(text: str) -> MountSpec:
    """The mount of one ``--tmpfs``.

    Raises:
        StoreError: it is none (exit status 2).
    """
    option = f"--tmpfs {text}"
    target, _, words = text.partition(":")
    options = tuple(words.split(",")) if words else ()
    for word in options:
        _check_word(word, option)
    return MountSpec(
        Kind.TMPFS,
        clean_target(target, option),
        read_only="ro" in options,
        tmpfs_options=tuple(word for word in options if word not in ("ro", "rw", "defaults")),
    )


def _check_word(word: str, option: str) -> None:
    name, separator, value = word.partition("=")
    if not separator and name in _WORDS:
        return
    pattern = _VALUES.get(name)
    if not separator or pattern is None:
        raise wrong_usage(
            option, f"{word!r} is not an option of a tmpfs", "use size=, mode=, uid=, gid=, nr_inodes=, ro, exec and the like"
        )
    if not pattern.fullmatch(value):
        raise wrong_usage(option, f"{word!r} has no such value", "write size=64m, mode=1770, uid=1000")
