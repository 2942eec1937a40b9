"""Where the layers of a union have the owners of their objects: in an extended attribute (as fuse-overlayfs, direct.c and
main.c), and mapped by an idmapped mount or not."""

from __future__ import annotations

import os
from collections.abc import Sequence

from unionfs.linux.mountinfo import mount_id, read_mountinfo
from unionfs.linux.namespaces import overflow_ids
from unionfs.overlay.id_map import IdMap, IdMaps
from unionfs.overlay.layer import Layer
from unionfs.overlay.options import OwnerOptions
from unionfs.overlay.stat_override import CONTAINERS, PRIVILEGED, USER, StatOverride, Stored, form_of


def choose_owners(upper: Layer | None, lowers: Sequence[Layer], options: OwnerOptions) -> tuple[bool, IdMaps | None]:
    """Set `Layer.override` and `Layer.is_idmapped` of all layers; whether any has owners in an attribute, and how ids are shown
    (None: as they really are, in all layers).

    A lower layer has the form of the attribute that its root directory shows.  The upper has the one that was asked for, and its
    root directory gets the attribute now if it has none: the first that a lower root has, or what its real owner and mode say.

    Raises:
        OSError: the upper layer cannot hold the attribute.
    """
    look_at_lowers(lowers, options)
    if upper is not None:
        upper.override = _form_of_upper(upper, options)
        if upper.override is not None and not upper.override.is_in(upper.root.fd):
            _mark(upper, upper.override, lowers)
    has_overrides = any(layer.override is not None for layer in (*lowers, *([upper] if upper else ())))
    if not (has_overrides or options.maps_ids):
        return False, None
    overflow_uid, overflow_gid = overflow_ids()
    uids = IdMap(options.uids, options.squash_uid, overflow_uid)
    return has_overrides, IdMaps(uids, IdMap(options.gids, options.squash_gid, overflow_gid))


def look_at_lowers(lowers: Sequence[Layer], options: OwnerOptions) -> None:
    """Set `Layer.override` and `Layer.is_idmapped` of lower layers."""
    if options.overrides != "none" or options.detects_overrides:
        for layer in lowers:
            layer.override = form_of(layer.root.fd)
    if options.uids or options.gids:
        mounts = {mount.id: mount for mount in read_mountinfo()}
        for layer in lowers:
            # By its path: the mount that it is open through shows nowhere.
            mount = mounts.get(mount_id(layer.path))
            layer.is_idmapped = mount is not None and "idmapped" in mount.options.split(",")


def _form_of_upper(upper: Layer, options: OwnerOptions) -> StatOverride | None:
    if options.overrides == "none":
        return form_of(upper.root.fd) if options.detects_overrides else None
    if options.overrides == "privileged":
        return PRIVILEGED
    return USER if not CONTAINERS.is_in(upper.root.fd) and USER.is_in(upper.root.fd) else CONTAINERS


def _mark(upper: Layer, form: StatOverride, lowers: Sequence[Layer]) -> None:
    marked = next((layer for layer in lowers if layer.override is not None), None)
    root = b"/proc/self/fd/%d" % (upper if marked is None else marked).root.fd
    stored = Stored.of(os.stat(root))
    if marked is not None and marked.override is not None:
        stored = marked.override.read(root, True, stored)
    try:
        form.write(b"/proc/self/fd/%d" % upper.root.fd, True, stored)
    except OSError as error:
        needed = f"{os.fsdecode(form.name)}, which xattr_permissions needs"
        problem = f"the upper cannot hold {needed} ({error.strerror}); leave that out, or use another upper"
        raise OSError(error.errno, problem, str(upper.path)) from None
