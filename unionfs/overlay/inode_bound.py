"""Keeping the number of inodes in bounds, by asking the kernel to forget some.

Only the kernel can let an inode go, and it keeps all it ever saw as long as the machine has memory.  So when there are more than
the limit, it is asked to forget those that were known for longest.  It does so with what nobody uses, and its FORGETs take the
inodes out of the table; of what is in use it takes no notice.
"""

from __future__ import annotations

import itertools

from unionfs.filesystem import Forgettable, StaleAttributes
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.node_table import NodeTable

_MOST_AT_ONCE = 4096
"""Inodes looked at in one go, which keeps requests waiting for about 3 ms."""
_LEAST_GROWTH = 64
"""Inodes that come before the next go, if the kernel did nothing after the last one."""


class InodeBound:
    """Watches over one table of inodes.

    A go is due when there are more than the limit, and again when half of what was asked for has gone: the kernel can forget.  If
    it does not, because all is in use, the next go waits for some growth, so that it costs each new inode no more than looking at
    a few others.
    """

    def __init__(self, nodes: NodeTable, notices: list[StaleAttributes | Forgettable], limit: int) -> None:
        """``limit``: how many inodes there should be at most; 0: any number.  ``notices``: see
        `unionfs.filesystem.Filesystem`."""
        self.limit = limit
        self._nodes = nodes
        self._notices = notices
        # Somewhat fewer than the limit, or every new inode would be one too many.
        slack = min(limit // 8, _MOST_AT_ONCE)
        self._goal = limit - slack
        self._growth = max(slack // 4, _LEAST_GROWTH)
        if limit:
            nodes.ceiling = limit
            nodes.on_crossing = self._check

    def _check(self) -> None:
        nodes = self._nodes
        if len(nodes) <= self.limit:
            nodes.ceiling, nodes.floor = self.limit, 0
            return
        unused = self._oldest_unused(len(nodes) - self._goal)
        nodes.ceiling = len(nodes) + self._growth
        nodes.floor = max(self.limit, len(nodes) - (len(unused) + 1) // 2) if unused else self.limit
        if unused:
            self._notices.append(Forgettable(unused))

    def _oldest_unused(self, wanted: int) -> list[int]:
        candidates = (inode.node for inode in self._nodes.rotate(_MOST_AT_ONCE) if _may_go(inode))
        return list(itertools.islice(candidates, wanted))


def _may_go(inode: Inode) -> bool:
    # What has no name is open, and a directory is held by what the kernel knows in it.
    if inode.nlookup <= 0 or inode.pins > 0 or inode.parent is None:
        return False
    return not (isinstance(inode, Directory) and inode.children)
