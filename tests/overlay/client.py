"""A union as a caller of the contract sees it, without any transport: paths instead of node ids, restarts done on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from unionfs.filesystem import ROOT_ID, SET_MODE, SET_SIZE, Attr, Blocking, Caller, Changes, Entry
from unionfs.overlay import Stack, Union

T = TypeVar("T")

ROOT = Caller(0, 0, 1, 0o022)


class Client:
    """Calls a `Union` the way a transport does, one request after the other."""

    def __init__(self, union: Union) -> None:
        self.union = union
        self.blocked = 0

    def call(self, method: Callable[..., T], *args: Any) -> T:
        """Call a method of the union; whatever it waits for is done here and now."""
        while True:
            try:
                return method(*args)
            except Blocking as blocking:
                self.blocked += 1
                result = blocking.work()
                if not blocking.restart:
                    return result  # type: ignore[no-any-return]

    def node(self, path: str) -> int:
        """Node id of what is at ``path``; counts lookups on the way."""
        node = ROOT_ID
        for name in filter(None, path.split("/")):
            entry = self.call(self.union.lookup, node, os.fsencode(name))
            if entry is None:
                raise FileNotFoundError(path)
            node = entry.node
        return node

    def place(self, path: str) -> tuple[int, bytes]:
        """(node id of the parent, name) of ``path``."""
        parent, _, name = path.rpartition("/")
        return self.node(parent), os.fsencode(name)

    def attr(self, path: str) -> Attr:
        """Attributes."""
        return self.call(self.union.getattr, self.node(path))

    def names(self, path: str) -> list[bytes]:
        """All names of a directory but the dots, as readdir gives them."""
        node = self.node(path)
        rows = self.call(lambda: list(self.union.readdir(node, 0)))
        assert [row.name for row in rows[:2]] == [b".", b".."]
        return [row.name for row in rows[2:]]

    def read(self, path: str) -> bytes:
        """Contents of a file."""
        return bytes(self.call(self.union.read, self.node(path), 0, 1 << 20))

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Open for writing and write; makes the file if it is not there."""
        parent, name = self.place(path)
        if self.call(self.union.lookup, parent, name) is None:
            node = self.call(self.union.create, parent, name, os.O_WRONLY, 0o644, ROOT)[0].node
        else:
            node = self.node(path)
            self.call(self.union.open, node, os.O_WRONLY, ROOT)
        assert self.call(self.union.write, node, offset, data) == len(data)

    def chmod(self, path: str, mode: int) -> Attr:
        """Change the mode."""
        return self.call(self.union.setattr, self.node(path), Changes(SET_MODE, mode=mode), ROOT)

    def truncate(self, path: str, size: int) -> Attr:
        """Change the length."""
        return self.call(self.union.setattr, self.node(path), Changes(SET_SIZE, size=size), ROOT)

    def mkdir(self, path: str) -> Entry:
        """Make a directory."""
        return self.call(self.union.mkdir, *self.place(path), 0o755, ROOT)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self.call(self.union.unlink, *self.place(path))

    def rmdir(self, path: str) -> None:
        """Remove a directory."""
        self.call(self.union.rmdir, *self.place(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Rename."""
        self.call(self.union.rename, *self.place(old), *self.place(new), flags)


def build(directory: Path, contents: dict[str, bytes | None]) -> Path:
    """Make ``directory`` with files (bytes) and directories (None) at relative paths; returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        path = directory / name
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return directory


def stack(tmp_path: Path, *lowers: dict[str, bytes | None], writable: bool = True) -> Stack:
    """A stack of new directories under ``tmp_path``, top lower first."""
    paths = tuple(build(tmp_path / f"lower{index}", contents) for index, contents in enumerate(lowers))
    if not writable:
        return Stack(paths)
    return Stack(paths, build(tmp_path / "upper", {}), build(tmp_path / "work", {}))
