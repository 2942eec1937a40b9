"""Where the object at a path comes from: ``unionfs explain``."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from unionfs.overlay import kinds
from unionfs.overlay.data_place import SoughtData
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer, RealDir, stat_in
from unionfs.overlay.listing import DOT_WHITEOUT, kind_of
from unionfs.overlay.real_file import find_data
from unionfs.overlay.tree import Tree

_LETTERS = {kinds.FIFO: "p", kinds.CHR: "c", kinds.DIR: "d", kinds.BLK: "b", kinds.REG: "f", kinds.LNK: "l", kinds.SOCK: "s"}


class Explain:
    """Tells of one union what its layers hold at a path."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def explain(self, path: bytes) -> dict[str, Any]:
        """See `unionfs.filesystem.Filesystem.explain`.

        Raises:
            OSError: ENOENT or ENOTDIR where a directory of the path is not there; EINVAL for ``..`` in it.
        """
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if b".." in names:
            raise OSError(errno.EINVAL, "the path must not contain ..")
        looked_up: list[Inode] = []
        try:
            return self._explain(names, looked_up)
        finally:
            # Whatever the kernel does not know of must not stay for ever: nobody would forget it.
            for inode in reversed(looked_up):
                if inode.nlookup == 0:
                    self._tree.nodes.release(inode)

    def _explain(self, names: list[bytes], looked_up: list[Inode]) -> dict[str, Any]:
        tree = self._tree
        if not names:
            return self._describe(b"", tree.root, self._root_places())
        parent = tree.root
        for name in names[:-1]:
            inode = tree.must_find(parent, name)
            looked_up.append(inode)
            if not isinstance(inode, Directory):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            parent = inode
        found = tree.find(parent, names[-1])
        places = self._places(parent, names[-1])
        if found is not None:
            looked_up.append(found[0])
            places[:0] = self._index_place(found[0], places)
        return self._describe(b"/".join(names), found[0] if found else None, places)

    def _index_place(self, inode: Inode, places: list[tuple[Layer, Path, int]]) -> list[tuple[Layer, Path, int]]:
        """The entry of the index that a name leads to which is only in a lower layer; empty if it does not."""
        if not inode.is_indexed or places[0][0].is_upper:
            return []
        return [(inode.place.layer, inode.place.path() / os.fsdecode(inode.place_name), inode.kind)]

    def _describe(self, path: bytes, inode: Inode | None, places: list[tuple[Layer, Path, int]]) -> dict[str, Any]:
        """``places``: what the layers have there, top first: layer, host path, type."""
        top = places[0] if places else None
        shown = _LETTERS[inode.kind] if inode is not None else "whiteout" if top else "missing"
        merged: list[str] = []
        if isinstance(inode, Directory):
            merged = [real.layer.label for real in (inode.upper, *inode.lowers) if real is not None]
        hidden = [place for place in places[1:] if place[0].label not in merged]
        return {
            "path": os.fsdecode(path),
            "type": shown,
            "layer": top[0].label if top else None,
            "real_path": str(top[1]) if top else None,
            "copied_up": self._is_copied_up(inode, places),
            "merged": merged,
            "data": self._data(inode),
            "hides": [
                {"layer": layer.label, "real_path": str(real_path), "type": _LETTERS.get(kind, "whiteout")}
                for layer, real_path, kind in hidden
            ],
        }

    def _data(self, inode: Inode | None) -> dict[str, Any] | None:
        if inode is None or inode.data is None:
            return None
        try:
            data = find_data(self._tree, inode)
        except OSError:
            assert isinstance(inode.data, SoughtData)
            return {"layer": None, "real_path": os.fsdecode(inode.data.path)}
        return {"layer": data.place.layer.label, "real_path": str(data.place.path() / os.fsdecode(data.name))}

    @staticmethod
    def _is_copied_up(inode: Inode | None, places: list[tuple[Layer, Path, int]]) -> bool:
        """In the upper layer, and of the same type as what the next layer has: then it was copied up (or made anew in its
        image)."""
        if inode is None or not places or not places[0][0].is_upper:
            return False
        if isinstance(inode, Directory):
            return bool(inode.lowers)
        return len(places) > 1 and places[1][2] == inode.kind

    def _root_places(self) -> list[tuple[Layer, Path, int]]:
        reals = (self._tree.root.upper, *self._tree.root.lowers)
        return [(real.layer, real.path(), kinds.DIR) for real in reals if real is not None]

    def _places(self, parent: Directory, name: bytes) -> list[tuple[Layer, Path, int]]:
        places = []
        for real in (parent.upper, *parent.lowers):
            if real is None:
                continue
            for there in (name, DOT_WHITEOUT + name):
                kind = self._kind(real, there)
                if kind is not None:
                    places.append((real.layer, real.path() / os.fsdecode(there), kind))
                    break
        return places

    def _kind(self, real: RealDir, name: bytes) -> int | None:
        pool = self._tree.pool
        try:
            st = real.ask(pool, stat_in, name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return None
            raise
        if name.startswith(DOT_WHITEOUT):
            return kinds.WHT
        kind = kind_of(st)
        is_marked = kind == kinds.REG and st.st_size == 0 and real.has_xattr_whiteouts
        return kinds.WHT if is_marked and real.ask(pool, self._tree.xattrs.is_whiteout, name) else kind
