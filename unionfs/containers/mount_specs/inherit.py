"""``--volumes-from``: ``CONTAINER[:ro|rw|z|Z]``, every mount of another container's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from unionfs.containers.mount_specs.short import Mode, parse_mode
from unionfs.containers.mount_specs.spec import MountSpec
from unionfs.store.errors import wrong_usage


def parse_inherited(text: str) -> tuple[str, Mode | None]:
    """The container of one ``--volumes-from``, and how its mounts are to be mounted; None: as that container has them.

    Raises:
        StoreError: it is none (exit status 2).
    """
    option = f"--volumes-from {text}"
    name, separator, words = text.partition(":")
    if not name:
        raise wrong_usage(option, "no container is named", "write --volumes-from CONTAINER[:ro]")
    if not separator:
        return name, None
    mode = parse_mode(words, option)
    if mode.propagation or mode.no_copy:
        raise wrong_usage(option, "propagation and nocopy stay as the other container has them", "use ro, rw, z or Z")
    return name, mode


def inherited(mounts: Sequence[MountSpec], mode: Mode | None) -> list[MountSpec]:
    """The mounts of another container, for this one.  What that one has read-only stays so; the image's content is not copied
    again."""
    found = []
    for mount in mounts:
        mount = dataclasses.replace(mount, no_copy=True)
        if mode is not None:
            mount = dataclasses.replace(mount, read_only=mount.read_only or mode.read_only, relabel=mode.label or mount.relabel)
        found.append(mount)
    return found
