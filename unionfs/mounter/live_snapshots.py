"""Snapshots of the mount that this process serves, taken, gone back to, merged: in the union, the kernel's memory and the
registry."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import trio

from unionfs.mounter.control_server import Handler
from unionfs.mounter.live_layers import LiveLayers
from unionfs.mounter.locks import lock
from unionfs.overlay import Union

_log = logging.getLogger("unionfs.mounter")

_PATIENCE = 10.0
"""Seconds for the threads that write to the upper by themselves to end: a copy between two files, the data of a copy-up."""
_LOOK_AGAIN = 0.005

_T = TypeVar("_T")


class _NewUpper(Protocol):
    """What `_carry_out` needs of a snapshot or a rollback in the making."""

    @property
    def new_upper(self) -> Path: ...
    def copy_beforehand(self) -> Callable[[], None] | None: ...
    def discard(self) -> None: ...


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
        return {
            "snapshot": self._take,
            "snapshot_rollback": self._roll_back,
            "snapshot_merge": self._merge,
            "snapshot_rm": self._remove,
        }

    async def _take(self, request: dict[str, Any]) -> object:
        name = request.get("name")
        async with self._layers.one_at_a_time:
            snapshot = self._union.prepare_snapshot(None if name is None else str(name))
            with self._layers.changing():
                taken = await self._carry_out(snapshot, snapshot.take)
                self._publish(f"snapshot {taken.snapshot.number}")
                await self._layers.tell(taken.notices)
            about = taken.snapshot.about
            return {
                "number": taken.snapshot.number,
                "name": about.name,
                "layer": str(taken.snapshot.layer),
                "consistent": about.is_consistent,
            }

    async def _roll_back(self, request: dict[str, Any]) -> object:
        async with self._layers.one_at_a_time:
            rollback = self._union.prepare_rollback(str(request["name"]), keeps=not request["discard"])
            try:
                look = rollback.look()
                look.discard()
                # Before the kernel is told: it would take the mount away along with the name.
                self._layers.refuse_mounted(look.lost_paths)
                await self._layers.make_kernel_let_go(look)
            except BaseException:
                rollback.discard()
                raise
            with self._layers.changing():
                done = await self._carry_out(
                    rollback, lambda: rollback.take(self._layers.refuse_mounted, force=bool(request["force"]))
                )
                self._publish(f"the rollback to {request['name']}")
                await self._layers.tell(done.notices)
            if done.rubbish is not None:
                await trio.to_thread.run_sync(_remove, done.rubbish)
            return None if done.kept is None else done.kept.about.name

    async def _merge(self, request: dict[str, Any]) -> object:
        async with self._layers.one_at_a_time:
            self._layers.check_unchanged(request)
            merge = self._union.prepare_merge([int(number) for number in request["numbers"]])
            # What it looks at does not change, so requests go on being answered.
            try:
                await trio.to_thread.run_sync(merge.prepare)
            except BaseException:
                merge.discard()
                raise
            with self._layers.changing():
                notices = merge.take()
                self._publish("the merge of snapshots")
                await self._layers.tell(notices)
            return None

    async def _remove(self, request: dict[str, Any]) -> object:
        async with self._layers.one_at_a_time:
            self._layers.check_unchanged(request)
            if not self._union.writable:
                raise OSError(errno.EROFS, "the union is read-only, and so are its snapshots")
            gone = self._union.set_snapshot_aside(int(request["number"]))
            self._publish(f"the removal of snapshot {request['number']}")
            await trio.to_thread.run_sync(_remove, gone)
            return None

    # -- parts ------------------------------------------------------------------------------------------------------------

    async def _carry_out(self, prepared: _NewUpper, take: Callable[[], _T]) -> _T:
        """Replace the upper; ``take`` discards what is ``prepared`` if it fails."""
        try:
            lock_fd = lock(prepared.new_upper)
        except BaseException:
            prepared.discard()
            raise
        try:
            try:
                work = prepared.copy_beforehand()
                if work is not None:
                    await trio.to_thread.run_sync(work)
                await self._wait_for_a_moment()
            except BaseException:
                prepared.discard()
                raise
            # From here on nothing is awaited: no request is answered before all is done.
            done = take()
        except BaseException:
            os.close(lock_fd)
            raise
        self._locks.append(lock_fd)
        return done

    def _publish(self, what: str) -> None:
        layers = self._union.lowers
        record = dataclasses.replace(
            self._layers.record,
            lowers=[str(layer.path) for layer in layers],
            layer_changes=self._layers.record.layer_changes + 1,
            snapshots=sum(layer.is_snapshot for layer in layers),
        )
        try:
            self._layers.publish(record)
        except OSError as error:
            # It is made all the same; commands go by what the registry says of the mount.
            _log.error("the registry could not be told of %s: %s", what, error)
        _log.info("%s of %s: its lower layers are now %s", what, record.mountpoint, ", ".join(record.lowers))

    async def _wait_for_a_moment(self) -> None:
        with trio.move_on_after(_PATIENCE):
            while self._union.is_busy:
                await trio.sleep(_LOOK_AGAIN)
        if self._union.is_busy:
            raise OSError(errno.EBUSY, "data is being copied into the upper all the time")


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except OSError as error:
        # The next mount will do it.
        _log.warning("%s could not be removed: %s", directory, error)
