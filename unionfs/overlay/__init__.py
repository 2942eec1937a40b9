"""The union itself: what a stack of directories means.  Synchronous; raises OSError; knows no FUSE.

The names in `__all__` are loaded when somebody asks for them: commands that only read a value of ``options`` need no union.

Layout, from the bottom up:

``options``            what a user may choose.
``kinds``              types of directory entries.
``id_map``             ids of owners, in the layers and as shown.
``stat_override``      owners, modes and types in extended attributes.
``fd_pool``            which descriptors stay open.
``layer``              the stack, its layers, the real directories in them.
``private_xattrs``     the union's own extended attributes.
``layer_owners``       which layers have owners in extended attributes, or mapped by their mount.
``listing``            real directories read and laid upon each other; whiteouts and opaque directories.
``listing_order``      stable offsets.
``origin``             where an upper object was copied up from.
``ino_map``            inode numbers.
``lower_stack``        what a directory is merged with: opaque marks, redirects.
``inode``              inodes and dentries.
``data_place``, ``data_layers``, ``metacopy``   files whose metadata and data are in different layers.
``node_table``         the inodes the kernel knows, and when they go.
``inode_bound``        keeping their number in bounds.
``incompat``           marks that forbid later mounts.
``work_dir``           staging of what is to be installed in the upper layer.
``whiteouts``          whiteouts and opaque marks of the upper layer, in the form that it allows.
``open_stack``         the layers, opened, and what is known of each.
``lower_links``        the names of one lower file.
``tree``               the merged tree: what a name leads to.
``real_file``          descriptors of regular files.
``ownership``          whose an object is and becomes.
``metadata_copy``      owner, extended attributes, mode and times, copied.
``data_copy``          the slow part of a copy-up.
``copy_target``, ``copy_staging``, ``indexed_copy``, ``succession``   a copy in the making, installed, in the index, and after it.
``copy_up``            lower objects become upper ones.
``contents``           open, read, write, truncate, copy ranges, fsync.
``attributes``         stat, chmod, chown, utimes, extended attributes.
``inode_flags``        flags of chattr(1).
``creation``, ``removal``, ``rename``   changes of names.
``directory_listing``  readdir.
``layers_change``      other lower layers under a union in use.
``snapshots``          snapshots of an upper on disk: where they are, which mount they belong to, recovery.
``snapshot_origins``, ``index_names``   what their inode numbers and hard links were.
``carried``            files open for writing at a snapshot, which go on in the new upper.
``data_update``, ``beforehand``   copies of them that are made while requests are answered.
``new_upper``          the new upper with its index.
``live_snapshot``      the upper of a union in use becomes a layer.
``detached_layers``    layers that are no longer part of the union and still hold open files.
``live_rollback``, ``live_merge``   going back to a snapshot, and making one layer of several, under a union in use.
``layer_diff``, ``merge_layers``   layers compared, and two made one.
``explain``            which layer a path comes from.
``recovery``           the inodes that another worker knew, found again.
``union``              all of it behind the filesystem contract.
``size_limit``, ``limited_union``   the same with a limit on what the upper may take, accounted.
``upper_project``, ``quota_union``   the same by a project quota of the filesystem.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unionfs.overlay.layer import Layer, Stack, open_lower
    from unionfs.overlay.layers_change import LayersChange
    from unionfs.overlay.limited_union import LimitedUnion
    from unionfs.overlay.options import Options, OwnerOptions
    from unionfs.overlay.union import Union

__all__ = ["Layer", "LayersChange", "LimitedUnion", "Options", "OwnerOptions", "Stack", "Union", "open_lower"]

_MODULES = {
    "Layer": "layer",
    "LayersChange": "layers_change",
    "LimitedUnion": "limited_union",
    "Options": "options",
    "OwnerOptions": "options",
    "Stack": "layer",
    "Union": "union",
    "open_lower": "layer",
}


def __getattr__(name: str) -> object:
    """Python calls this for a name that the module has not (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
