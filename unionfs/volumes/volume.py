"""What a volume is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Filling(Enum):
    """Whether the volume got the image's content that the first container has where the volume is mounted."""

    NEW = "new"
    """Not yet: nothing has been in it."""
    COPYING = "copying"
    """Somebody copies, or was killed while copying: then what is in it is thrown away, and copied again."""
    DONE = "done"
    """It was, or had content of its own; never again."""


@dataclass(frozen=True)
class Volume:
    """A volume.  ``options`` are its driver's, as given; ``anonymous``: nobody chose its name; ``created``: seconds since the
    epoch."""

    name: str
    driver: str
    options: dict[str, str] = field(hash=False)
    labels: dict[str, str] = field(hash=False)
    anonymous: bool
    filling: Filling
    created: float


@dataclass(frozen=True)
class Peer:
    """The process that asked for a mount, and may die without asking for its end: its ID and start time
    (`unionfs.mounter.processes`)."""

    pid: int
    started: int


@dataclass(frozen=True)
class VolumeMount:
    """Somebody who has a volume mounted: ``user`` is ``container:ID``, or ``plugin:ID`` of a foreign engine; ``count`` times;
    ``since``: seconds since the epoch."""

    user: str
    count: int
    peer: Peer | None
    since: float
