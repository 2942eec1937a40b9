"""Which driver is used."""

from __future__ import annotations

import os
from collections.abc import Callable

from unionfs.store.drivers import Driver
from unionfs.store.drivers.btrfs import BtrfsDriver
from unionfs.store.drivers.kernel_overlay import KernelOverlayDriver
from unionfs.store.drivers.plain_copy import PlainCopyDriver
from unionfs.store.drivers.union import UnionDriver
from unionfs.store.errors import StoreError

VARIABLE = "UNIONFS_DRIVER"

_DRIVERS: dict[str, Callable[[], Driver]] = {
    driver.name: driver for driver in (UnionDriver, KernelOverlayDriver, PlainCopyDriver, BtrfsDriver)
}

NAMES = tuple(_DRIVERS)
"""What ``--driver`` may say, the default first."""


def driver_named(name: str) -> Driver:
    """The driver of that name.

    Raises:
        StoreError: there is none (exit status 2).
    """
    if name not in _DRIVERS:
        error = StoreError(name, "no such driver", f"use one of {', '.join(NAMES)}")
        error.exit_status = 2
        raise error
    return _DRIVERS[name]()


def choose_driver(given: str | None = None) -> Driver:
    """The driver to make new snapshots with: ``given`` (``--driver``), else UNIONFS_DRIVER, else the union.

    Raises:
        StoreError: there is none of that name (exit status 2).
    """
    return driver_named(given or os.environ.get(VARIABLE) or NAMES[0])
