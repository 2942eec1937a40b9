"""The bundle of a container: ``config.json`` of the OCI runtime specification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unionfs.containers.cgroups import cgroups_path
from unionfs.containers.mounts import MASKED_PATHS, READ_ONLY_PATHS, default_mounts
from unionfs.containers.options import Network
from unionfs.containers.volumes import ReadyMounts

CONFIG = "config.json"
ROOTFS = "rootfs"

_NAMESPACES = ("pid", "ipc", "uts", "mount")

# moby, oci/defaults.go: everything may be made, these may be used.
_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
_DEVPTS_MAJOR = 136


def runtime_config(
    *,
    process: dict[str, Any],
    container_id: str,
    hostname: str,
    network: Network,
    read_only: bool,
    host_files: Mapping[str, Path],
    ready: ReadyMounts,
) -> dict[str, Any]:
    """The config; ``process`` of `unionfs.containers.process`, ``host_files`` of `unionfs.containers.mounts.default_mounts`;
    what is in ``ready`` is mounted over all of these."""
    namespaces = [*_NAMESPACES, *(("network",) if network == "none" else ())]
    propagation = {} if ready.rootfs_propagation is None else {"rootfsPropagation": ready.rootfs_propagation}
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": ROOTFS, "readonly": read_only},
        "hostname": hostname,
        "mounts": _without_hidden(default_mounts(host_files), ready) + list(ready.mounts),
        "linux": {
            "cgroupsPath": cgroups_path(container_id),
            "namespaces": [{"type": kind} for kind in namespaces],
            "resources": {"devices": _device_rules()},
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READ_ONLY_PATHS),
            **propagation,
        },
    }


def _without_hidden(mounts: list[dict[str, Any]], ready: ReadyMounts) -> list[dict[str, Any]]:
    """Without the defaults that the user has something of his own for, on the very same place."""
    given = {mount["destination"] for mount in ready.mounts}
    return [mount for mount in mounts if mount["destination"] not in given]


def _device_rules() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
        {"allow": True, "type": "c", "major": _DEVPTS_MAJOR, "access": "rwm"},
    ]
    return rules + [{"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES]
