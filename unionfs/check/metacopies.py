"""Rule: files of the upper that hold no data (``metacopy``), but have none in the lower layers either.

Reading one fails with EIO.  Where the data is: fs/overlayfs/namei.c, ovl_lookup.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from unionfs.check.checked_stack import CheckedStack, Found, Visited
from unionfs.check.finding import Finding
from unionfs.check.redirects import is_malformed
from unionfs.linux.links import fd_path
from unionfs.overlay import kinds
from unionfs.overlay.inode import Directory
from unionfs.overlay.layer import Layer
from unionfs.overlay.listing import kind_of


def dangling_metacopies(stack: CheckedStack, visited: Visited) -> Iterator[Finding]:
    """Findings ``dangling-metacopy``.  Only with the lowers."""
    if not stack.lowers or not stack.follows_redirects:
        return
    for found in visited.objects:
        is_metacopy = found.kind == kinds.REG and b"metacopy" in found.marks
        if is_metacopy and not is_malformed(found) and not _has_data(stack, visited, found):
            yield Finding(
                "dangling-metacopy",
                found.path,
                "has attributes only, and its data is in no lower layer",
                "give all lowers in their order; if the data is gone for good, remove the file",
            )


def _has_data(stack: CheckedStack, visited: Visited, found: Found) -> bool:
    redirect = found.marks.get(b"redirect", b"")
    if redirect.startswith(b"/"):
        return _in_roots(stack, None, redirect)
    return _in_directory(stack, visited.directory, redirect or found.name)


def _in_roots(stack: CheckedStack, below: Layer | None, path: bytes) -> bool:
    """Whether the layers under ``below`` (None: all lowers) have the data at a path from their roots."""
    names = path[1:].split(b"/")
    # It is a lower file that leads to a data-only layer, not one of the upper.
    sought = None if below is None else path
    try:
        directory = stack.find_lower(names[:-1], below)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False  # a malformed redirect on the way: a mount would not find it either
    if directory is None:
        return stack.has_data(sought)
    return _in_directory(stack, directory, names[-1], sought)


def _in_directory(stack: CheckedStack, directory: Directory, name: bytes, sought: bytes | None = None) -> bool:
    """Whether the lower parts of a directory have the data under ``name``, which may change on the way down, or else a data-only
    layer has it at ``sought``."""
    for lower in directory.lowers:
        fd = lower.open(stack.pool)
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if kind_of(st) != kinds.REG:
            break
        marks = stack.marks(b"%s/%s" % (fd_path(fd), name))
        if b"metacopy" not in marks:
            return True
        redirect = marks.get(b"redirect", b"")
        if redirect.startswith(b"/"):
            return _in_roots(stack, lower.layer, redirect)
        sought = None
        name = redirect or name
    return stack.has_data(sought)
