"""One mount that somebody wants in a container."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Kind(Enum):
    """The types of mounts, by docker's names."""

    BIND = "bind"
    """A directory or file of the host."""
    VOLUME = "volume"
    TMPFS = "tmpfs"
    """Memory that goes with the container."""


PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
DEFAULT_PROPAGATION = "rprivate"


@dataclass(frozen=True)
class MountSpec:
    """One mount.  ``target``: its absolute path in the container.  ``source``: the absolute path on the host, or the name of a
    volume; None: an anonymous volume, or a tmpfs.

    Of binds: ``propagation`` (one of `PROPAGATIONS`), ``recursive`` (with what is mounted below the source), ``makes_source`` (a
    source that is not there becomes a directory).  ``relabel``: ``z`` (SELinux: shared by containers), ``Z`` (this one's own).
    Of volumes: ``no_copy`` (nothing of the image's content goes into an empty one), ``subpath`` inside it, and
    ``driver``, ``driver_options``, ``labels`` for one that has to be made.  Of tmpfs: ``tmpfs_options``, words of mount(8).
    """

    kind: Kind
    target: str
    source: str | None = None
    read_only: bool = False
    propagation: str = DEFAULT_PROPAGATION
    recursive: bool = True
    makes_source: bool = False
    relabel: str = ""
    no_copy: bool = False
    subpath: str | None = None
    driver: str | None = None
    driver_options: dict[str, str] = field(default_factory=dict, hash=False)
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    tmpfs_options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the database."""
        return {**dataclasses.asdict(self), "kind": self.kind.value}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> MountSpec:
        """The other way round."""
        return cls(**{**kept, "kind": Kind(kept["kind"]), "tmpfs_options": tuple(kept["tmpfs_options"])})


def volume_names(specs: Iterable[MountSpec]) -> list[str]:
    """The volumes among the mounts of a container, by name."""
    return [spec.source for spec in specs if spec.kind is Kind.VOLUME and spec.source is not None]
