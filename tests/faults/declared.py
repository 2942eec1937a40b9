"""What a fault may do besides leaving what was before or what comes after: each with the reason why it cannot be otherwise."""

from __future__ import annotations

import re
from typing import NamedTuple


class Declared(NamedTuple):
    """``operation`` (with the options before it) and ``problem`` are patterns; ``lasts``: only where the fault stays, so that
    nothing can be undone."""

    operation: str
    problem: str
    lasts: bool
    reason: str


DECLARED = (
    Declared(
        ".*, link over a whiteout",
        "after the fault the union shows neither|a new mount shows something else",
        True,
        "the link in the work directory counts until it can be removed: when the next thing is staged, or at the next mount",
    ),
    Declared(
        ".*, (rename over an emptied directory|rmdir of a merged directory)",
        "a new mount shows other inode numbers",
        False,
        "an empty directory took the place of one that held whiteouts; its number shows from the next mount on",
    ),
    Declared(
        ".*, all attributes",
        "the union shows neither",
        False,
        "a request that changes several attributes takes several system calls; those before the failed one stay",
    ),
    Declared(
        ".*, link of an unnamed file over a whiteout",
        "without the fault",
        False,
        "over a whiteout it first gets a name in the work directory; what has lost its last name gets no other from the kernel",
    ),
    Declared(
        ".*metacopy, write.*",
        "mtime_ns=-1",
        False,
        "data that comes to a metadata-only copy changes its mtime, and setting that back is what failed",
    ),
    Declared(
        "snapshot, snapshot",
        r"^(after|without) the fault the union shows something else: .*nlink",
        True,
        "files that it shares with what was staged have one name more until that is removed: by the next one, or at a mount",
    ),
    Declared(
        "snapshot, snapshot",
        r"^(after|without) the fault the union shows something else: d/f.*nlink=4",
        False,
        "it is taken, and the former index is removed at the next mount: until then it counts among the names of its files",
    ),
    Declared(
        "(durable|strict), .*",
        "^without the fault it gives [A-Z]+ once$",
        True,
        "the error of a copying in the background is told to the next who asks for it: the attempt after that succeeds",
    ),
)


def is_declared(operation: str, lasts: bool, problem: str) -> bool:
    """Whether a problem is one of those."""
    return any(
        re.fullmatch(declared.operation, operation) and re.search(declared.problem, problem) and (lasts or not declared.lasts)
        for declared in DECLARED
    )
