"""Where the data of a file is whose metadata is elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from unionfs.overlay.layer import RealDir


class DataPlace(NamedTuple):
    """Where the data of a metadata-only copy is: a name in a real directory of a lower layer; ``blocks`` of 512 bytes."""

    place: RealDir
    name: bytes
    blocks: int

    def recorded(self) -> tuple[bytes, bytes]:
        """What the journal has of it: the path of its layer, and the one in there."""
        return self.place.recorded(self.name)


class SoughtData(NamedTuple):
    """Data that is at ``path`` in one of the data-only layers, which are not asked before somebody wants to read; until then the
    number of ``blocks`` is a guess."""

    path: bytes
    blocks: int

    def recorded(self) -> tuple[bytes, bytes]:
        """The same; no layer."""
        return b"", self.path


Data = DataPlace | SoughtData
