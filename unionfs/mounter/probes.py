"""The probes of ``unionfs doctor``: whether this machine can mount a union, how fast, and with what in the layers."""

from __future__ import annotations

from pathlib import Path

from unionfs.mounter.directory_probes import directory_probes
from unionfs.mounter.finding import Finding, Probe
from unionfs.mounter.fuse_probes import fuse_probes
from unionfs.mounter.process_probes import process_probes

__all__ = ["Finding", "Probe", "probes"]


def probes(directory: Path) -> list[Probe]:
    """All probes, in the order to show them.  ``directory`` is where an upper would be: its filesystem is probed by making and
    removing things in it."""
    return [*fuse_probes(directory), *directory_probes(directory), *process_probes()]
