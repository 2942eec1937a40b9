"""What is mounted in every container besides its root filesystem, after docker's defaults (moby, oci/defaults.go)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DIRECTORIES = ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys")  # noqa: S108
"""Where filesystems are mounted, in their order."""


def default_mounts(host_files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The mounts, as they stand in the runtime's config; ``host_files`` are files of the host by their paths in the container."""
    return [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
        *(_mount(place, "bind", str(source), "rbind", "rprivate") for place, source in sorted(host_files.items())),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
