"""Rule: whiteouts and opaque marks in the ``.wh.`` format of AUFS, which fuse-overlayfs and layer archives leave.

They are notes, since unionfs reads them; the kernel's OverlayFS would show them as files.  A repair writes the same in the
kernel's format first, and removes the old form then: cut off in between it leaves both, which mean the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from unionfs.check.checked_stack import CheckedStack, Found, Visited
from unionfs.check.finding import Finding, Repair, Severity
from unionfs.overlay import kinds
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import DOT_OPAQUE, DOT_WHITEOUT
from unionfs.overlay.private_xattrs import HIDES_ALL

_RESERVED = b".wh..wh."


def dot_whiteouts(stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
    """Findings ``dot-whiteout``."""
    by_name = {found.name: found for found in visited.objects}
    for found in visited.objects:
        if not found.name.startswith(DOT_WHITEOUT):
            continue
        problem, repair = _explained(stack, visited.real, found, by_name)
        if found.kind == kinds.DIR:
            repair = None  # AUFS keeps data of its own in some
        remedy = None if repair else "remove it, if the directory is for OverlayFS only"
        yield Finding("dot-whiteout", found.path, problem, remedy, repair, Severity.NOTE)


def _explained(stack: CheckedStack, real: RealDir, found: Found, by_name: dict[bytes, Found]) -> tuple[str, Repair | None]:
    if found.name == DOT_OPAQUE:
        return "makes its directory opaque in the format of AUFS", Repair(
            "mark the directory opaque instead", lambda: _make_opaque(stack, real, b"", found.name)
        )
    if found.name.startswith(_RESERVED):
        return "belongs to AUFS", None
    hidden = found.name[len(DOT_WHITEOUT) :]
    above = by_name.get(hidden)
    problem = f"hides {os.fsdecode(hidden)} in the format of AUFS"
    if above is None:
        return problem, Repair("put a whiteout in its place", lambda: _put_whiteout(stack, real, hidden, found.name))
    if above.kind == kinds.DIR:
        what = f"mark {above.path.name} opaque instead"
        return problem, Repair(what, lambda: _make_opaque(stack, real, hidden, found.name))
    what = f"remove it, as {above.path.name} itself hides what is below"
    return problem, Repair(what, lambda: os.unlink(found.name, dir_fd=real.open(stack.pool)))


def _make_opaque(stack: CheckedStack, real: RealDir, name: bytes, dot_name: bytes) -> None:
    stack.set_mark(real, name, b"opaque", HIDES_ALL)
    os.unlink(dot_name, dir_fd=real.open(stack.pool))


def _put_whiteout(stack: CheckedStack, real: RealDir, name: bytes, dot_name: bytes) -> None:
    fd = real.open(stack.pool)
    os.mknod(name, stat.S_IFCHR, kinds.WHITEOUT_RDEV, dir_fd=fd)
    os.unlink(dot_name, dir_fd=fd)
