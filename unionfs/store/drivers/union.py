"""Our own union, one daemon a mount."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from unionfs.linux.capabilities import in_initial_user_namespace
from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import parse_options
from unionfs.mounter.request import may_write_trusted_xattrs
from unionfs.store.drivers import Mount, Place
from unionfs.store.drivers.mounting import UNION, escaped
from unionfs.store.drivers.overlay_like import ALONE, OverlayLike
from unionfs.store.errors import StoreError

_FUSE_DEVICE = Path("/dev/fuse")


def for_containers() -> list[str]:
    """Options of a union for containers: all their users, their devices, their set-id programs, as far as we may."""
    options = [] if may_write_trusted_xattrs() else ["userxattr"]
    # To others the kernel grants none of these.
    if os.geteuid() == 0:
        options.append("allow_other")
        options += ("dev", "suid") if in_initial_user_namespace() else ()
    return options


class UnionDriver(OverlayLike):
    """The default: it works for every user, and limits the size of what is written."""

    name = "union"

    @property
    def limits_size(self) -> bool:
        """As `Driver.limits_size`: by the mount option ``size``."""
        try:
            parse_options(["size=1"])
        except OptionError:
            return False
        return True

    def check(self, root: Path) -> None:
        """As `Driver.check`."""
        del root
        if not _FUSE_DEVICE.exists():
            raise StoreError(str(_FUSE_DEVICE), "no such device", "load the kernel module (modprobe fuse), or use --driver copy")

    def mounts(self, place: Place, lowers: Sequence[Path], writable: bool) -> list[Mount]:
        """As `Driver.mounts`: one of type ``fuse.unionfs``."""
        options = [f"{name}={escaped(value)}" for name, value in self.directory_options(place, lowers, writable)]
        options += ALONE if writable else ()
        if place.size_limit is not None and writable:
            options.append(f"size={place.size_limit}")
        options += for_containers()
        options.append("rw" if writable else "ro")
        return [Mount(UNION, str(place.directory), "", tuple(options))]
