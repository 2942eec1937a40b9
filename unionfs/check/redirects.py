"""Rule: redirects that are malformed, lead nowhere, or lead to a lower directory that is shown elsewhere too.

Renaming a directory leaves a redirect and a whiteout, or something else, at the old name.  If that cover is missing, one lower
directory shows twice, with one inode number; if one of the two places lies inside the other, find(1) speaks of a loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from unionfs.check.checked_stack import CheckedStack, Found, Visited
from unionfs.check.finding import Finding
from unionfs.overlay.inode import Directory
from unionfs.overlay.layer import RealDir
from unionfs.overlay.lower_stack import check_redirect

_TO_LOSE = "or remove the attribute, and lose what was there"


class Redirects:
    """The rule for one run of the check; remembers where each lower directory was seen."""

    def __init__(self) -> None:
        self._shown: dict[tuple[int, int], Visited] = {}

    def malformed(self, stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
        """Findings ``bad-redirect``: looking such an object up fails with EINVAL."""
        for found in visited.objects:
            if is_malformed(found):
                value = os.fsdecode(found.marks[b"redirect"])
                remedy = f"correct the attribute {os.fsdecode(stack.xattrs.prefix)}redirect, {_TO_LOSE}"
                yield Finding("bad-redirect", found.path, f"has the malformed redirect {value!r}", remedy)
        if visited.merge_error is not None and not is_malformed(visited.itself):
            problem = f"cannot be merged with the layers below: {visited.merge_error.strerror}"
            yield Finding("bad-redirect", visited.itself.path, problem, "check the lower layers as well")

    def astray(self, stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
        """Findings ``dangling-redirect``, ``redirect-loop`` and ``redirect-duplicate``.  Only with the lowers."""
        if not stack.lowers or not stack.follows_redirects:
            return
        directory = visited.directory
        if directory.redirect and not directory.lowers:
            yield Finding(
                "dangling-redirect",
                visited.itself.path,
                f"is redirected to {os.fsdecode(directory.redirect)!r}, which no lower layer has",
                f"give all lowers in their order; if it is gone for good, remove {os.fsdecode(stack.xattrs.prefix)}redirect",
            )
        if directory.lowers:
            yield from self._shown_twice(stack, visited, directory.lowers[0])

    def _shown_twice(self, stack: CheckedStack, visited: Visited, lower: RealDir) -> Iterator[Finding]:
        identity = _identity(stack, lower)
        other = self._shown.setdefault(identity, visited)
        if other is not visited:
            yield _twice(_parts(visited, stack), _parts(other, stack), visited, lower)
        elif visited.directory.redirect:
            place = _natural_place(lower)
            uncovered = _find(stack, place)
            # With an upper part of its own it is, or will be, visited itself.
            if uncovered is not None and uncovered.upper is None and _identity(stack, uncovered.lowers[0]) == identity:
                yield _twice(_parts(visited, stack), tuple(map(os.fsdecode, place)), visited, lower)


def is_malformed(found: Found) -> bool:
    """Whether an object has a redirect that OverlayFS refuses."""
    value = found.marks.get(b"redirect")
    if value is None:
        return False
    try:
        check_redirect(value)
    except OSError:
        return True
    return not value


def _parts(visited: Visited, stack: CheckedStack) -> tuple[str, ...]:
    return visited.itself.path.relative_to(stack.upper.path).parts


def _twice(own: tuple[str, ...], other: tuple[str, ...], visited: Visited, lower: RealDir) -> Finding:
    shortest = min(len(own), len(other))
    is_loop = own[:shortest] == other[:shortest]
    elsewhere = "/".join(other) or "the root"
    problem = f"shows the lower directory {lower.path()}, which shows at {elsewhere} as well"
    remedy = f"put a whiteout at the place where it should not show ({'/'.join(own)} or {elsewhere}), or remove the redirect"
    return Finding("redirect-loop" if is_loop else "redirect-duplicate", visited.itself.path, problem, remedy)


def _identity(stack: CheckedStack, lower: RealDir) -> tuple[int, int]:
    st = os.fstat(lower.open(stack.pool))
    return st.st_dev, st.st_ino


def _natural_place(real: RealDir) -> list[bytes]:
    """The names that lead to a directory from the root of its layer: where the union would show it without any redirect."""
    names: list[bytes] = []
    step: RealDir | None = real
    while step is not None and step.parent is not None:
        names.append(step.name)
        step = step.parent
    return names[::-1]


def _find(stack: CheckedStack, names: list[bytes]) -> Directory | None:
    try:
        return stack.find(names)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None  # a malformed redirect on the way: nothing shows there, and it is a finding of its own
