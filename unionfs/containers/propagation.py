"""Which mounts made on one side of a bind appear on the other (mount_namespaces(7), "Shared subtrees")."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unionfs.linux.mountinfo import mount_id, read_mountinfo
from unionfs.store.errors import StoreError

_SHARED, _SLAVE = ("shared", "rshared"), ("slave", "rslave")


def rootfs_propagation(propagations: Iterable[str]) -> str | None:
    """The propagation that the root of the container's mounts needs, so that those of its binds can have any effect; None: the
    runtime's default, which is private.  As docker sets it (moby, daemon/oci_linux.go: setMounts)."""
    wanted = set(propagations)
    if wanted & set(_SHARED):
        return "rshared"
    return "rslave" if wanted & set(_SLAVE) else None


def demand_propagation(source: Path, propagation: str) -> None:
    """Refuse a source whose mount cannot give what is asked for.

    Raises:
        StoreError: it is on a mount that nothing propagates from.
    """
    if propagation not in (*_SHARED, *_SLAVE):
        return
    number = mount_id(source)
    found = next(each for each in read_mountinfo() if each.id == number)
    if found.is_shared or (propagation in _SLAVE and found.is_slave):
        return
    kind = "shared" if propagation in _SHARED else "shared or slave"
    raise StoreError(
        str(source), f"{propagation}: the mount on {found.mount_point} is not {kind}", f"mount --make-shared {found.mount_point}"
    )
