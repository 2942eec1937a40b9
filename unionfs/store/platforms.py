"""For which machines an image is, in the words of Go's GOOS and GOARCH (OCI image specification, image-index.md)."""

from __future__ import annotations

import os
from typing import NamedTuple

# uname(2)'s machine -> architecture and variant; after containerd/platforms.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "loongarch64": ("loong64", ""),
}


class Platform(NamedTuple):
    """``str()`` is ``OS/ARCHITECTURE[/VARIANT]``."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))

    def fitness(self, machine: Platform) -> int | None:
        """How well an image for this platform suits ``machine``, more being better; None: it does not run there."""
        if (self.os, self.architecture) != (machine.os, machine.architecture):
            return None
        if self.variant == machine.variant:
            return 100
        if self.architecture == "arm":
            # An ARM runs what was made for older ones, and the newest of these is the best.
            level, limit = _level(self.variant or "v7"), _level(machine.variant)
            return level if level <= limit else None
        # amd64's variants say what more than the plain instruction set is needed; arm64 without one means v8.
        return 99 if not self.variant or self.variant == "v1" else 0


def _level(variant: str) -> int:
    digits = variant.removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 3 else 99


def host_platform() -> Platform:
    """This machine's."""
    machine = os.uname().machine
    return Platform("linux", *_MACHINES.get(machine, (machine, "")))
