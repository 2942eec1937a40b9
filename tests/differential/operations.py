"""Which operations hypothesis draws, to be played on a tree (`tests.differential.player`).

Names are few and paths short, so that operations meet each other: most of the interesting cases of a union are about something
being made, moved or removed where something else was.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.differential.player import MOST_HELD, NAMES, Operation
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE


def _paths() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


def _modes() -> st.SearchStrategy[int]:
    return st.sampled_from((0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000))


def _operation(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    return st.builds(Operation, st.just(name), st.tuples(*arguments))


def _kinds() -> st.SearchStrategy[int]:
    return st.sampled_from((stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)).map(lambda kind: kind | 0o640)


def operations() -> st.SearchStrategy[Operation]:
    """Any operation; those that move and remove names are drawn more often."""
    paths, xattrs = _paths(), st.sampled_from(("user.one", "user.two", "trusted.three", "trusted.overlay.four"))
    data, held, sizes = st.binary(min_size=1, max_size=20), st.integers(0, MOST_HELD - 1), st.sampled_from((0, 2, 9000))
    renames = _operation("rename", paths, paths, st.sampled_from((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE)))
    removals: tuple[Callable[[], st.SearchStrategy[Operation]], ...] = (
        lambda: _operation("unlink", paths),
        lambda: _operation("rmdir", paths),
        lambda: _operation("remove_tree", paths),
    )
    return st.one_of(
        renames,
        renames,
        *(removal() for removal in removals),
        _operation("create", paths, _modes()),
        _operation("mkdir", paths, _modes().map(lambda mode: mode | 0o700)),
        _operation(
            "write", paths, data, st.sampled_from((0, 3, 5000)), st.sampled_from((0, os.O_TRUNC, os.O_APPEND, os.O_CREAT))
        ),
        _operation("read", paths),
        _operation("truncate", paths, sizes),
        _operation("hold", paths, st.sampled_from((0, 0, os.O_CREAT, os.O_TRUNC, os.O_APPEND))),
        _operation("stat_held", held),
        _operation("read_held", held),
        _operation("write_held", held, data, st.sampled_from((0, 3, 5000))),
        _operation("truncate_held", held, sizes),
        _operation("chmod_held", held, _modes()),
        _operation("link_held", held, paths),
        _operation("copy_held", held, held, st.sampled_from((20_000, 30_000))),
        _operation("chmod", paths, _modes()),
        _operation("chown", paths, st.sampled_from((0, 1234)), st.sampled_from((0, 4321))),
        _operation("utime", paths, st.integers(0, 1000)),
        _operation("mknod", paths, _kinds(), st.sampled_from((0, os.makedev(1, 3)))),
        _operation("symlink", paths, _paths()),
        _operation("link", paths, paths),
        _operation("listdir", paths),
        _operation("setxattr", paths, xattrs, data, st.sampled_from((0, os.XATTR_CREATE, os.XATTR_REPLACE))),
        _operation("removexattr", paths, xattrs),
    )
