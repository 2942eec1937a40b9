"""What the kernel remembers of a union: names, attributes, listings and contents, for ever, until it is told otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.overlay.client import ROOT, Client
from unionfs.filesystem import ROOT_ID, Attr, Entry, Notice, StaleAttributes, StaleName
from unionfs.overlay import kinds


class KernelCache:
    """Looks at a union through a memory that only notices take anything from."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._entries: dict[tuple[int, bytes], int | None] = {}
        self._attributes: dict[int, Attr] = {}
        self._contents: dict[int, Any] = {}

    def tell(self, notices: Iterable[Notice]) -> None:
        """Forget what is no longer so."""
        for notice in notices:
            if isinstance(notice, StaleName):
                self._entries.pop((notice.parent, notice.name), None)
                continue
            self._attributes.pop(notice.node, None)
            if not isinstance(notice, StaleAttributes):
                self._contents.pop(notice.node, None)

    def let_go(self, *kept: int) -> None:
        """Drop every reference but those to ``kept``, and all that is remembered by names."""
        self._entries.clear()
        union = self._client.union
        for inode in list(union._nodes):
            if inode.node not in (ROOT_ID, *kept):
                union.forget(inode.node, inode.nlookup)

    def lookup(self, parent: int, name: bytes) -> int | None:
        """Node id of a name; None where there is none."""
        key = parent, name
        if key not in self._entries:
            entry: Entry | None = self._client.call(self._client.union.lookup, parent, name)
            self._entries[key] = entry and entry.node
            if entry is not None:
                self._attributes[entry.node] = entry.attr
        return self._entries[key]

    def attr(self, node: int) -> Attr:
        """Attributes of a node."""
        if node not in self._attributes:
            self._attributes[node] = self._client.call(self._client.union.getattr, node)
        return self._attributes[node]

    def contents(self, node: int) -> Any:
        """Data of a file, target of a symbolic link, names and types of a directory."""
        if node not in self._contents:
            self._contents[node] = self._read(node, self.attr(node).mode >> 12)
        return self._contents[node]

    def _read(self, node: int, kind: int) -> Any:
        call, union = self._client.call, self._client.union
        if kind == kinds.DIR:
            return sorted((row.name, row.kind) for row in call(union.readdir, node, 0) if row.name not in (b".", b".."))
        if kind == kinds.REG:
            return bytes(call(union.read, node, 0, 1 << 20))
        return call(union.readlink, node) if kind == kinds.LNK else None

    def tree(self, absent: Iterable[bytes] = ()) -> dict[bytes, Any]:
        """All that is visible, by path; an errno where it cannot be looked at.

        ``absent`` are names that are looked up in each directory whether they are there or not."""
        union = self._client.union
        seen: dict[bytes, Any] = {}
        pending = [(b"", ROOT_ID)]
        while pending:
            path, node = pending.pop()
            attr = self.attr(node)
            try:
                contents = self.contents(node)
            except OSError as error:
                seen[path] = error.errno
                continue
            names = sorted(self._client.call(union.listxattr, node, ROOT))
            xattrs = {name: self._client.call(union.getxattr, node, name) for name in names}
            # Sizes and times of directories are those of real ones, which copy-ups and the working order of a test change.
            known = (attr.mode, attr.uid, attr.gid, attr.nlink, attr.size if attr.mode >> 12 != kinds.DIR else 0)
            seen[path] = (known, contents, xattrs)
            if attr.mode >> 12 != kinds.DIR:
                continue
            for name in {*absent, *(name for name, _ in contents)}:
                try:
                    child = self.lookup(node, name)
                except OSError as error:
                    seen[path + b"/" + name] = error.errno
                    continue
                if child is not None:
                    pending.append((path + b"/" + name, child))
        return seen
