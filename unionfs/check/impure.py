"""Rule: a directory that holds an object with an origin, but has no mark ``impure``.

Without the mark neither the kernel nor we look for origins in it: the inode numbers of copied-up objects change with every mount,
and a directory that was moved there is not found to have a lower part (fs/overlayfs/copy_up.c, ovl_set_impure).
"""

from __future__ import annotations

from collections.abc import Iterator

from unionfs.check.checked_stack import CheckedStack, Visited
from unionfs.check.finding import Finding, Repair


def missing_impure_mark(stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
    """Findings ``not-impure``."""
    if b"impure" in visited.itself.marks:
        return
    copied_up = next((found for found in visited.objects if b"origin" in found.marks), None)
    if copied_up is not None:
        yield Finding(
            "not-impure",
            visited.itself.path,
            f"is not marked impure, though it holds {copied_up.path.name}, which was copied up",
            repair=Repair("mark it impure", lambda: stack.set_mark(visited.real, b"", b"impure", b"y")),
        )
