"""What there is in a directory, for comparison."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.faults.tree import Shown, fixed_mtime


def tree_of(directory: Path) -> dict[str, Shown]:
    """Everything below a directory, by path."""
    return {os.fspath(path.relative_to(directory)): _shown(path) for path in directory.rglob("*")}


def _shown(path: Path) -> Shown:
    st = path.lstat()
    is_directory = stat.S_ISDIR(st.st_mode)
    contents = path.read_bytes() if stat.S_ISREG(st.st_mode) else os.readlink(os.fsencode(path)) if path.is_symlink() else b""
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    return Shown(
        st.st_mode,
        (st.st_uid, st.st_gid),
        0 if is_directory else st.st_size,
        0 if is_directory else st.st_nlink,
        0 if is_directory else fixed_mtime(st.st_mtime_ns),
        st.st_rdev,
        contents,
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names),
    )
