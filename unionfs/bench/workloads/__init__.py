"""All workloads, in the order of the table."""

from __future__ import annotations

from unionfs.bench.workload import Workload
from unionfs.bench.workloads import (
    build,
    containers,
    copy_up,
    data,
    debian,
    git,
    lookup,
    many_layers,
    names,
    pip,
    small_files,
    sqlite,
    trees,
)

ALL: tuple[Workload, ...] = (
    *lookup.WORKLOADS,
    *small_files.WORKLOADS,
    *data.WORKLOADS,
    *names.WORKLOADS,
    *copy_up.WORKLOADS,
    *trees.WORKLOADS,
    *git.WORKLOADS,
    *build.WORKLOADS,
    *pip.WORKLOADS,
    *sqlite.WORKLOADS,
    *debian.WORKLOADS,
    *containers.WORKLOADS,
    *many_layers.WORKLOADS,
)
