"""What a crash may leave besides what was before or what comes after: each with the reason why it cannot be otherwise."""

from __future__ import annotations

import re
from typing import NamedTuple


class Declared(NamedTuple):
    """``change`` (the way of the crash, the options, the change) and ``problem`` are patterns."""

    change: str
    problem: str
    reason: str


DECLARED = (
    Declared(
        ".*, (rename over an emptied directory|rmdir of a merged directory)",
        "^another inode number: d/sub$",
        "an empty directory took the place of one that held whiteouts, which is another one",
    ),
    Declared(
        ".*, all attributes",
        "^neither what was before nor what is after: .*d/f",
        "a request that changes several attributes takes several system calls",
    ),
    Declared(
        ".*: (metacopy|index and metacopy), .*write.*",
        "^neither .*mtime_ns=-1",
        "data that comes to a metadata-only copy changes its mtime, which is set back after it (OverlayFS leaves the new one)",
    ),
    Declared(
        ".*, link of an unnamed file.*",
        "^neither .*size=0, ",
        "the name of a file that nobody has synced may come to the disk before its data",
    ),
    Declared(
        "(ext4|xfs|btrfs): .*truncate of a large file",
        "^neither .*large: ",
        "the filesystem itself clears the rest of the last block before the shorter length is on the disk",
    ),
    Declared(
        "btrfs: (auto|strict|metacopy|index), .*",
        "is not marked impure|^another inode number: (large|f)$|^neither .* f: .*nlink=2,",
        "fsync(2) of a file brings its name to the disk there, but not the attributes of the directory above, without which it "
        "is not known to be a copy",
    ),
)


def undeclared(change: str, problems: list[str]) -> list[str]:
    """The problems that are none of those."""
    return [
        problem
        for problem in problems
        if not any(
            re.fullmatch(declared.change, change) and re.search(declared.problem, problem, re.DOTALL) for declared in DECLARED
        )
    ]
