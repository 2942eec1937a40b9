"""One machine for all workloads of a backend: its root filesystem is too large for a mount and a comparison for each test.

The kernel's OverlayFS is among the backends, because a workload that fails there says nothing about ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import build
from tests.behaviour.tree import Snapshot, differences
from tests.mounts import ALL

from .machine import SITE_LAYER, Machine, make_rootfs


@pytest.fixture(scope="session")
def lowers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The layers of every machine, top first.  At the end of the session, not a byte of them may have changed."""
    site = tmp_path_factory.mktemp("site")
    build(site, SITE_LAYER)
    lowers = [site, make_rootfs()]
    before = [Snapshot.of(lower, exact=True) for lower in lowers]
    yield lowers
    for lower, snapshot in zip(lowers, before, strict=True):
        assert differences(snapshot, Snapshot.of(lower, exact=True)) == []


@pytest.fixture(scope="session", params=ALL, ids=lambda backend: backend.name)
def machine(request: pytest.FixtureRequest, lowers: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A root filesystem in a union.  At the end it is mounted again, and must be what it was before."""
    machine = Machine(request.param, lowers, tmp_path_factory.mktemp(request.param.name))
    machine.mount()
    try:
        yield machine
        assert machine.changed_by_remount() == []
    finally:
        machine.umount()
