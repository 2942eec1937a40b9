"""Where the data of a file is whose metadata is elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from unionfs.overlay.layer import RealDir


class DataPlace(NamedTuple):
    """Where the data of a metadata-only copy is: a name in a real directory of a lower layer; ``blocks`` of 512 bytes."""

    place: RealDir
    name: bytes
    blocks: int


class SoughtData(NamedTuple):
    """Data that is at ``path`` in one of the data-only layers, which are not asked before somebody wants to read; until then the
    number of ``blocks`` is a guess."""

    path: bytes
    blocks: int


Data = DataPlace | SoughtData
