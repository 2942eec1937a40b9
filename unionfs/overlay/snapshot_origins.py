"""Inode numbers of what is in snapshots: what was copied up to one goes on showing the number of its origin.

OverlayFS looks at origins of upper objects only, so an upper that becomes a lower layer would show other numbers than before.  In
layers that were the upper once they count here.  What is copied up from such a layer has that object as its ``origin``, as
OverlayFS wants it, and the origin that gave the number in an attribute of ours, ``unionfs.origin``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from unionfs.overlay.layer import RealDir, at
from unionfs.overlay.origin import Found

if TYPE_CHECKING:
    import os

    from unionfs.overlay.tree import Tree


class FirstOrigin(NamedTuple):
    """The object whose number is shown, and the value of ``origin`` that means it."""

    value: bytes
    found: Found


def first_origin(tree: Tree, place: RealDir, name: bytes) -> FirstOrigin | None:
    """Whose number an object of a snapshot shows; None: its own."""
    if not (place.layer.is_snapshot and place.impure):
        return None
    value = place.ask(tree.pool, at, name, tree.xattrs.first_origin)
    is_first = bool(value)
    value = value or place.ask(tree.pool, at, name, tree.xattrs.origin)
    found = tree.origins.find(value)
    if found is None:
        return None
    # A copy of just one of several names of a lower file has a number of its own; the index marked what was a copy of all.
    if not is_first and found.nlink > 1 and not place.ask(tree.pool, at, name, tree.xattrs.nlink):
        return None
    return FirstOrigin(value, found)


def lower_ino(tree: Tree, place: RealDir, name: bytes, st: os.stat_result) -> int:
    """The number shown for what is no directory, in a lower layer; ``st`` is of the real object."""
    if place.layer.is_snapshot:
        known = tree.copied_up_inos.get(st.st_ino)
        if known is not None:
            return known
        first = first_origin(tree, place, name)
        if first is not None:
            return tree.inos.shown(first.found.device, first.found.ino)
    return tree.inos.shown(st.st_dev, st.st_ino)


def first_ino(tree: Tree, place: RealDir, name: bytes) -> int | None:
    """The number shown for an upper object that was copied up from a snapshot where it had an origin; None for any other."""
    if not any(layer.is_snapshot for layer in tree.lowers):
        return None
    found = tree.origins.find(place.ask(tree.pool, at, name, tree.xattrs.first_origin))
    return None if found is None else tree.inos.shown(found.device, found.ino)


def numbered(lowers: tuple[RealDir, ...]) -> RealDir:
    """Which of the lower directories that make up one gives it its number: the topmost, not counting those that were upper ones
    once, since their number was never seen; if all were, the first of them."""
    return next((real for real in lowers if not real.layer.is_snapshot), lowers[-1])
