"""All workloads, in the order of the table."""

from __future__ import annotations

from unionfs.bench.workload import Workload
from unionfs.bench.workloads import copy_up, data, lookup, many_layers, names, small_files, trees

ALL: tuple[Workload, ...] = (
    *lookup.WORKLOADS,
    *small_files.WORKLOADS,
    *data.WORKLOADS,
    *names.WORKLOADS,
    *copy_up.WORKLOADS,
    *trees.WORKLOADS,
    *many_layers.WORKLOADS,
)
