"""Changing the lower layers of the mount that this process serves: in the union, the kernel's memory and the registry."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from unionfs.filesystem import Notice
from unionfs.fuse.session import Session
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.control_server import Handler
from unionfs.mounter.registry import Record, Registration
from unionfs.overlay import Layer, LayersChange, Union, open_lower

_log = logging.getLogger("unionfs.mounter")

_PATIENCE = 0.5
"""Seconds for the kernel to let go of what nobody uses; a file that was just closed takes it a moment."""
_FEWEST_ATTEMPTS = 3
"""However long these take: to look at all that is known takes longer than that on a busy machine."""
_LOOK_AGAIN = 0.005


class LiveLayers:
    """The lower layers of one running mount.  One change at a time, each between two requests, as a whole or not at all."""

    def __init__(self, union: Union, session: Session, registration: Registration, record: Record) -> None:
        self._union = union
        self._session = session
        self._registration = registration
        self.record = record
        """What the registry has of the mount."""
        self.one_at_a_time = trio.Lock()
        """Held by whoever changes the layers, snapshots among them."""

    @property
    def handlers(self) -> dict[str, Handler]:
        """The requests of the control socket (see `unionfs.mounter.layers`, which sends them)."""
        return {"add_layer": self._add, "remove_layer": self._remove, "refresh": self._refresh}

    async def _add(self, request: dict[str, Any]) -> object:
        async with self.one_at_a_time:
            self.check_unchanged(request)
            # In a thread: should the path lead into the mount itself, its requests must go on being answered.
            added = await trio.to_thread.run_sync(open_lower, 0, Path(str(request["path"])))
            lowers = self._union.lowers
            try:
                await self._change([added, *lowers] if request["top"] else [*lowers, added])
            except BaseException:
                added.close()
                raise
            return self.record.lowers

    async def _remove(self, request: dict[str, Any]) -> object:
        async with self.one_at_a_time:
            self.check_unchanged(request)
            if any(layer.is_snapshot and str(layer.path) == request["path"] for layer in self._union.lowers):
                raise OSError(errno.EINVAL, "it is a snapshot of the upper, which is nothing without it")
            lowers = [layer for layer in self._union.lowers if str(layer.path) != request["path"]]
            if not 0 < len(lowers) < len(self._union.lowers):
                raise OSError(errno.EINVAL, "not a lower layer that can be removed")
            await self._change(lowers)
            return self.record.lowers

    async def _refresh(self, _request: dict[str, Any]) -> object:
        async with self.one_at_a_time:
            flags = self._session.negotiated.get("flags")
            keeps_sizes = isinstance(flags, list) and "writeback_cache" in flags
            with self.changing():
                await self.tell(self._union.reread_layers(keeps_sizes).apply())
            return self.record.lowers

    def check_unchanged(self, request: dict[str, Any]) -> None:
        """EAGAIN if the layers are not those that the request was checked against."""
        # Whoever asks has checked the layer against those that were there then.
        if request.get("layer_changes") != self.record.layer_changes:
            raise OSError(errno.EAGAIN, "the layers were changed meanwhile")

    # -- changing -----------------------------------------------------------------------------------------------------------

    async def _change(self, lowers: list[Layer]) -> None:
        change = await self._plan_without_users(lowers)
        paths = [str(layer.path) for layer in lowers]
        record = dataclasses.replace(self.record, lowers=paths, layer_changes=self.record.layer_changes + 1)
        with self.changing():
            change.keep_numbers()
            try:
                self.publish(record)
            except OSError:
                change.discard()
                raise
            notices = change.apply()
            _log.info("the lower layers of %s are now %s", record.mountpoint, ", ".join(paths))
            await self.tell(notices)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Within, the layers are changed and the kernel is told of it: a worker that takes over in the middle tells it all."""
        self._union.begin_change()
        try:
            yield
        finally:
            self._union.end_change()

    async def finish_change(self) -> None:
        """Another worker began a change, and did not live to tell the kernel all: it is told now, before there is another one."""
        async with self.one_at_a_time:
            await self.tell(self._union.everything())
            self._union.end_change()

    async def _plan_without_users(self, lowers: list[Layer]) -> LayersChange:
        """A change that nothing is in the way of; EBUSY if there is no moment for it.  Planned again and again: while the kernel
        lets go of one file, a busy client may look up another, or the same again."""
        deadline = trio.current_time() + _PATIENCE
        attempts = 0
        change = self._plan(lowers)
        while change.in_the_way:
            change.discard()
            attempts += 1
            if attempts > _FEWEST_ATTEMPTS and trio.current_time() > deadline:
                raise OSError(errno.EBUSY, f"{self.record.mountpoint}/{change.in_the_way[0].path} is in use")
            await self.make_kernel_let_go(change)
            change = self._plan(lowers)
        return change

    def publish(self, record: Record) -> None:
        """From now on the registry has ``record`` of the mount.  Changes nothing if it raises OSError."""
        self._registration.publish(record)
        self.record = record

    def _plan(self, lowers: list[Layer]) -> LayersChange:
        change = self._union.change_layers(lowers)
        try:
            self.refuse_mounted(change.lost_paths)
        except OSError:
            change.discard()
            raise
        return change

    def refuse_mounted(self, paths: list[str]) -> None:
        """EBUSY if something is mounted on or below one of ``paths`` in the union."""
        mounted = self._mounted_on(paths)
        if mounted is not None:
            raise OSError(errno.EBUSY, f"something is mounted on {mounted}")

    def _mounted_on(self, paths: list[str]) -> Path | None:
        """The mount on or below one of ``paths`` in the union: the kernel would take it away along with the name."""
        if not paths:
            return None
        top = Path(self.record.mountpoint)
        lost = {top / path for path in paths}
        for mount in read_mountinfo():
            if not lost.isdisjoint((mount.mount_point, *mount.mount_point.parents)):
                return mount.mount_point
        return None

    async def make_kernel_let_go(self, change: LayersChange) -> None:
        """Have the kernel forget what is in the way of ``change``, as far as nobody uses it."""
        await self.tell([name for entry in change.in_the_way for name in entry.names])
        with trio.move_on_after(_PATIENCE):
            while change.is_held:
                await trio.sleep(_LOOK_AGAIN)
        if self.record.restarts and change.is_held:
            held = {entry.inode.node: entry.inode for entry in change.in_the_way if entry.inode.nlookup > 0}
            await self._session.forget_unknown(held, lambda node: held[node].nlookup)

    async def tell(self, notices: list[Notice]) -> None:
        """Tell the kernel what is no longer so."""
        # Whatever becomes of the client: a kernel that was told half of it would go on believing the rest.
        with trio.CancelScope(shield=True):
            await self._session.tell(notices)
