"""Which real directories of the lower layers a directory is merged with: opaque marks and redirects.

The rules are those of ``ovl_lookup`` (fs/overlayfs/namei.c): from the top layer down; an opaque directory ends it; a *redirect*
says under which other name the layers below have the rest, either a name in the same parent or a path from the roots of the
layers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from unionfs.overlay import kinds
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer, RealDir, stat_in
from unionfs.overlay.listing import hides_all_below, kind_of
from unionfs.overlay.private_xattrs import PrivateXattrs

LONGEST_REDIRECT = 256
"""``redirect_max`` of OverlayFS: a longer one is not written."""


class LowerStack:
    """Finds what directories of one union are merged with."""

    def __init__(self, layers: list[Layer], pool: FdPool, xattrs: PrivateXattrs, follow_redirects: bool) -> None:
        """``layers``: the lower ones, top first."""
        self._layers = layers
        self._pool = pool
        self._xattrs = xattrs
        self._follow = follow_redirects
        self._indexes = {layer: index for index, layer in enumerate(layers)}

    def may_merge(self, parent: Directory, places: tuple[int, ...]) -> bool:
        """Whether a directory in the upper part of ``parent`` may have a lower part, so that its marks must be read.

        Without a lower directory of its name it may only by a redirect, and what has one also has an origin, which makes its
        parent impure (fs/overlayfs/copy_up.c, ovl_set_impure).
        """
        return bool(places) or (self._follow and parent.impure)

    def of_lower(self, parent: Directory, name: bytes, places: tuple[int, ...]) -> tuple[RealDir, ...]:
        """For a directory whose top is in a lower layer; ``places`` are the positions in ``parent.lowers`` that have the name."""
        found: list[RealDir] = []
        for place in places:
            above = parent.lowers[place]
            real = RealDir(above.layer, above, name)
            found.append(real)
            if self.is_bottom(real) or hides_all_below(real, self._pool, self._xattrs):
                break
            redirect = self._redirect(real)
            if redirect:
                found.extend(self._redirected(parent, place, real.layer, redirect))
                break
        return tuple(found)

    def of_upper(
        self, parent: Directory, name: bytes, upper: RealDir, places: tuple[int, ...]
    ) -> tuple[tuple[RealDir, ...], bytes]:
        """For a directory whose top is in the upper layer: the real directories, and its redirect (empty if none)."""
        if hides_all_below(upper, self._pool, self._xattrs):
            return (), b""
        redirect = self._redirect(upper)
        if redirect:
            return tuple(self._redirected(parent, -1, None, redirect)), redirect
        return self.of_lower(parent, name, places), b""

    # -- redirects ----------------------------------------------------------------------------------------------------

    def is_bottom(self, real: RealDir) -> bool:
        """Whether there is no layer below that of ``real``."""
        return real.layer is self._layers[-1]

    def _redirect(self, real: RealDir) -> bytes:
        if not self._follow:
            return b""
        value = real.ask(self._pool, self._xattrs.redirect_of)
        if value:
            check_redirect(value)
        return value

    def _redirected(self, parent: Directory, place: int, layer: Layer | None, redirect: bytes) -> Iterator[RealDir]:
        """What lies below a directory with a redirect: it was found at ``place`` of ``parent.lowers`` (-1: in the upper)."""
        while not redirect.startswith(b"/"):
            place += 1
            if place >= len(parent.lowers):
                return
            above = parent.lowers[place]
            real = self._directory_in(above, redirect)
            if real is None:
                if self.is_there(above, redirect):
                    return
                continue
            yield real
            layer = real.layer
            if self.is_bottom(real) or hides_all_below(real, self._pool, self._xattrs):
                return
            redirect = self._redirect(real) or redirect
        yield from self._from_roots(0 if layer is None else self._indexes[layer] + 1, redirect)

    def _from_roots(self, index: int, path: bytes) -> Iterator[RealDir]:
        """What the layers from ``index`` on have at ``path``; ``path`` may change from layer to layer."""
        for layer in self._layers[index:]:
            walk = _Walk(path[1:].split(b"/"))
            real = self._walk(layer, walk)
            if real is not None:
                yield real
            if walk.ends:
                return
            path = b"/" + b"/".join(walk.names_below())

    def find_path(self, path: bytes, index: int) -> tuple[RealDir, bytes, bytes] | None:
        """What the first of the layers from ``index`` on has at ``path``, of whatever type: a real directory, a name in it, and
        the path to go on with in the layers below that."""
        *names, last = path[1:].split(b"/")
        for layer in self._layers[index:]:
            walk = _Walk(names)
            real = self._walk(layer, walk)
            if real is not None and self.is_there(real, last):
                return real, last, b"/" + b"/".join([*walk.names_below(), last])
            if walk.ends:
                break
            names = walk.names_below()
        return None

    def index_of(self, real: RealDir) -> int:
        """Position of the layer of ``real`` in the lower stack; -1 for the upper layer."""
        return self._indexes.get(real.layer, -1)

    def _walk(self, layer: Layer, walk: _Walk) -> RealDir | None:
        real = layer.root
        for name in walk.names:
            below = self._directory_in(real, name)
            if below is None:
                walk.ends = walk.ends or self.is_there(real, name)
                return None
            real = below
            if not self.is_bottom(real):
                self._pass(real, walk)
        return real

    def _pass(self, real: RealDir, walk: _Walk) -> None:
        """Note what ``real``, a directory on the way of ``walk``, means for the layers below."""
        redirect = b""
        if hides_all_below(real, self._pool, self._xattrs):
            walk.ends = True
        else:
            redirect = self._redirect(real)
        if redirect.startswith(b"/"):
            walk.ends = False  # it leads out of an opaque directory that was passed (ovl_check_redirect)
        walk.redirects.append(redirect)

    def _directory_in(self, above: RealDir, name: bytes) -> RealDir | None:
        try:
            st = above.ask(self._pool, stat_in, name)
        except FileNotFoundError:
            return None
        return RealDir(above.layer, above, name) if kind_of(st) == kinds.DIR else None

    def is_there(self, above: RealDir, name: bytes) -> bool:
        """Whether something else than a directory has the name: a whiteout or a file ends the search."""
        try:
            above.ask(self._pool, stat_in, name)
        except FileNotFoundError:
            return False
        return True


class _Walk:
    """One path on its way through one layer."""

    def __init__(self, names: list[bytes]) -> None:
        self.names = names
        self.redirects: list[bytes] = []
        """Of the directories passed, in the order of ``names``."""
        self.ends = False
        """Whether no layer below may be asked."""

    def names_below(self) -> list[bytes]:
        """The path to go on with in the layers below: the redirects on the way applied."""
        names: list[bytes] = []
        for position, name in enumerate(self.names):
            redirect = self.redirects[position] if position < len(self.redirects) else b""
            if redirect.startswith(b"/"):
                names = redirect[1:].split(b"/")
            else:
                names.append(redirect or name)
        return names


def check_redirect(value: bytes) -> None:
    """EINVAL for a redirect that OverlayFS refuses: with an empty component, or a relative one with a slash."""
    names = value[1:].split(b"/") if value.startswith(b"/") else [value]
    # A dot would merge a directory with what it is in, a tree without end; the kernel finds no such name (lookup_one_len).
    if not all(names) or b"/" in names[0] or b"\0" in value or b".." in names or b"." in names:
        raise OSError(errno.EINVAL, f"invalid redirect {value!r} in a layer")


def redirect_for(inode: Inode, same_parent: bool) -> bytes:
    """The redirect to write before ``inode``, a directory or a metadata-only copy, is renamed; empty if the one it has stays
    good.

    A path also where it stays in the same parent, if it is not certain that its name alone is enough.

    Raises:
        OSError: EXDEV: longer than `LONGEST_REDIRECT`.
    """
    present = inode.redirect
    if present and (same_parent or present.startswith(b"/")):
        return b""
    parent, name = inode.names[0]
    if same_parent:
        return name
    names: list[bytes] = [present or name]
    ancestor: Directory | None = parent
    while ancestor is not None and ancestor.parent is not None:
        part = ancestor.redirect or ancestor.name
        names.append(part.lstrip(b"/"))
        ancestor = None if part.startswith(b"/") else ancestor.parent
    path = b"/" + b"/".join(reversed(names))
    if len(path) > LONGEST_REDIRECT:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return path
