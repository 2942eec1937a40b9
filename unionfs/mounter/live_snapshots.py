"""Taking snapshots of the mount that this process serves: in the union, the kernel's memory and the registry."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
from typing import Any

import trio

from unionfs.mounter.control_server import Handler
from unionfs.mounter.live_layers import LiveLayers
from unionfs.mounter.locks import lock
from unionfs.overlay import Union

_log = logging.getLogger("unionfs.mounter")

_PATIENCE = 10.0
"""Seconds for the threads that write to the upper by themselves to end: a copy between two files, the data of a copy-up."""
_LOOK_AGAIN = 0.005


class LiveSnapshots:
    """Snapshots of one running mount."""

    def __init__(self, union: Union, layers: LiveLayers) -> None:
        self._union = union
        self._layers = layers
        self._locks: list[int] = []
        """Descriptors that hold the locks of the uppers since the mount; they end with the process."""

    @property
    def handlers(self) -> dict[str, Handler]:
        """The requests of the control socket (see `unionfs.mounter.snapshots`, which sends them)."""
        return {"snapshot": self._take}

    async def _take(self, request: dict[str, Any]) -> object:
        name = request.get("name")
        async with self._layers.one_at_a_time:
            await self._wait_for_a_moment()
            # From here on nothing is awaited: no request is answered before all is done.
            snapshot = self._union.prepare_snapshot(None if name is None else str(name))
            try:
                lock_fd = lock(snapshot.new_upper)
            except BaseException:
                snapshot.discard()
                raise
            try:
                taken = snapshot.take()
            except BaseException:
                os.close(lock_fd)
                raise
            self._locks.append(lock_fd)
            lowers = [str(layer.path) for layer in self._union.lowers]
            record = self._layers.record
            record = dataclasses.replace(
                record, lowers=lowers, layer_changes=record.layer_changes + 1, snapshots=record.snapshots + 1
            )
            try:
                self._layers.publish(record)
            except OSError as error:
                # The snapshot is there all the same; commands go by what the registry says of the mount.
                _log.error("the registry could not be told of snapshot %d: %s", taken.snapshot.number, error)
            _log.info("snapshot %d of %s: %s", taken.snapshot.number, record.mountpoint, taken.snapshot.layer)
            await self._layers.tell(taken.notices)
            about = taken.snapshot.about
            return {
                "number": taken.snapshot.number,
                "name": about.name,
                "layer": str(taken.snapshot.layer),
                "consistent": about.is_consistent,
            }

    async def _wait_for_a_moment(self) -> None:
        with trio.move_on_after(_PATIENCE):
            while self._union.is_busy:
                await trio.sleep(_LOOK_AGAIN)
        if self._union.is_busy:
            raise OSError(errno.EBUSY, "data is being copied into the upper all the time")
