"""The kernel's OverlayFS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability
from unionfs.linux.overlay_mount import LONGEST_VALUE
from unionfs.mounter.request import may_write_trusted_xattrs
from unionfs.store.drivers import Mount, Place
from unionfs.store.drivers.mounting import OVERLAY, escaped
from unionfs.store.drivers.overlay_like import ALONE, OverlayLike
from unionfs.store.errors import StoreError

_FILESYSTEMS = Path("/proc/filesystems")
_LONGEST_BELOW_ROOT = len("/layers//diff") + 64
_SPECIAL = frozenset(",:\\")
"""Characters of names that its options give a meaning of their own, each option by other rules."""


class KernelOverlayDriver(OverlayLike):
    """No daemon, and nothing faster; needs the right to mount, and cannot limit the size."""

    name = "overlay"
    limits_size = False

    def check(self, root: Path) -> None:
        """As `Driver.check`."""
        remedy = "use --driver union"
        if not has_capability(CAP_SYS_ADMIN):
            raise StoreError("driver overlay", "needs the right to mount (CAP_SYS_ADMIN)", f"run as root, or {remedy}")
        if "overlay" not in _FILESYSTEMS.read_text().split():
            raise StoreError("driver overlay", "this kernel has no OverlayFS", f"load the module (modprobe overlay), or {remedy}")
        if len(bytes(root)) + _LONGEST_BELOW_ROOT > LONGEST_VALUE:
            raise StoreError(str(root), "too long a path for mount options of the kernel", f"use a shorter --root, or {remedy}")
        if _SPECIAL & set(str(root)):
            raise StoreError(str(root), "holds a comma, a colon or a backslash", f"use another --root, or {remedy}")

    def mounts(self, place: Place, lowers: Sequence[Path], writable: bool) -> list[Mount]:
        """As `Driver.mounts`: one of type ``overlay``."""
        options = [f"{name}={escaped(value)}" for name, value in self.directory_options(place, lowers, writable)]
        options += ALONE if writable else ("redirect_dir=nofollow",)
        if not may_write_trusted_xattrs():
            # fs/overlayfs/params.c refuses "off" beside userxattr; "nofollow" makes no redirects either.
            options = ["redirect_dir=nofollow" if word == "redirect_dir=off" else word for word in options]
            options.append("userxattr")
        if not writable:
            options.append("ro")
        return [Mount(OVERLAY, str(place.directory), "", tuple(options))]
