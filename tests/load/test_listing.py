"""A listing that is interrupted, and gone on with when another worker serves the mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.behaviour.syscalls import all_dents, getdents
from tests.load.served import Served
from tests.mounts import DIRECT

_NAMES = [f"name{number}" for number in range(200)]


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "many/made").touch(),
        lambda top: (top / "many/name100").unlink(),
        lambda top: (top / "many/name100").write_bytes(b"copied up"),
        lambda top: (top / "many/name100").rename(top / "many/renamed"),
    ],
    ids=["create", "unlink", "copy-up", "rename"],
)
def test_goes_on_where_it_stopped_though_names_have_changed_between_two_workers(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    """The first worker need not have written down the order of a directory that no upper has."""
    for name in ("lower/many", "upper", "work", "merged"):
        (tmp_path / name).mkdir(parents=True)
    for name in _NAMES:
        (tmp_path / "lower/many" / name).touch()
    merged = tmp_path / "merged"
    DIRECT.mount([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work", merged)
    try:
        served = Served(merged)
        fd = os.open(merged / "many", os.O_RDONLY | os.O_DIRECTORY)
        rows = getdents(fd, 1000)
        served.next_worker(served.kill_worker())
        change(merged)
        served.next_worker(served.kill_worker())
        rows += all_dents(fd, 1000)
        os.close(fd)
    finally:
        DIRECT.umount(merged)
    seen = [os.fsdecode(row.name) for row in rows]
    assert sorted(name for name in seen if name in _NAMES and name != "name100") == sorted(set(_NAMES) - {"name100"})
