"""A directory that is in a layer's format already becomes a layer as it is: what it lacks is a recipe and a digest."""

from __future__ import annotations

from pathlib import Path

from unionfs.store.chunks import stream_of
from unionfs.store.pack import pack_layer
from unionfs.store.recipe import RecipeWriter
from unionfs.store.tar_stream import TarStream
from unionfs.store.unpack import Unpacked


def describe_layer(diff: Path, recipe: Path) -> Unpacked:
    """Write the recipe of the layer at ``diff`` to the new file ``recipe``; what `unpack_layer` would say of its tar.

    Raises:
        StoreError: it depends on layers below it, or was changed meanwhile.
        OSError: it cannot be read, or the recipe not be written.
    """
    writer = RecipeWriter()
    tar = TarStream(stream_of(pack_layer(diff)), str(diff), writer)
    size = entries = 0
    directories = set()
    for member in tar:
        entries += 1
        path = member.name.encode("utf-8", "surrogateescape").strip(b"/").removeprefix(b".")
        if member.isdir():
            directories.add(path)
        elif member.isreg() and member.size:  # a whiteout is an empty file there, and none in the directory
            size += sum(len(piece) for piece in tar.content(member, path))
    writer.save(recipe)
    return Unpacked(tar.digest, tar.size, size, entries, None, frozenset(directories))
