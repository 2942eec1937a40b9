"""Rule: whiteouts that hide nothing, and such of the extended-attribute kind that would be listed."""

from __future__ import annotations

from collections.abc import Iterator

from unionfs.check.checked_stack import CheckedStack, Visited
from unionfs.check.finding import Finding, Repair, Severity
from unionfs.overlay import kinds
from unionfs.overlay.private_xattrs import HAS_XATTR_WHITEOUTS


def useless_whiteouts(stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
    """Findings ``useless-whiteout``: notes, because with another layer below it may have something to hide."""
    if not stack.lowers and not visited.is_opaque:
        return
    for found in visited.objects:
        is_whiteout = found.kind == kinds.WHT or found.is_xattr_whiteout
        if is_whiteout and found.name not in visited.lower_names:
            yield Finding(
                "useless-whiteout", found.path, "is a whiteout, but hides nothing in the layers below", severity=Severity.NOTE
            )


def unannounced_whiteouts(stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
    """Findings ``unannounced-whiteout``: only where ``opaque`` is ``x`` does readdir look for whiteouts of this kind
    (fs/overlayfs/util.c, ovl_get_dir_xattr_val)."""
    if visited.itself.marks.get(b"opaque") == HAS_XATTR_WHITEOUTS:
        return
    whiteout = next((found for found in visited.objects if found.is_xattr_whiteout), None)
    if whiteout is None:
        return
    repair = None
    if b"opaque" not in visited.itself.marks:
        repair = Repair("announce it (opaque=x)", lambda: stack.set_mark(visited.real, b"", b"opaque", HAS_XATTR_WHITEOUTS))
    yield Finding(
        "unannounced-whiteout",
        visited.itself.path,
        f"holds the whiteout {whiteout.path.name} in an extended attribute, but no mark that says so",
        remedy=None if repair else "remove the whiteout: below an opaque directory there is nothing to hide",
        repair=repair,
    )
