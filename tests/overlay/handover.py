"""A union in use that another worker takes over, without processes: the journal of one is what the next begins with."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.overlay.client import ROOT
from tests.overlay.disturbed_world import no_intent
from tests.overlay.test_live_snapshot import Live, Memory
from unionfs.journal.journal import Journal
from unionfs.journal.recovered import Backing, read_journal
from unionfs.journal.storage import JournalFile, new_journal
from unionfs.mounter.held import open_descriptors
from unionfs.mounter.registry import Record
from unionfs.mounter.worker import _lowers as lowers_of
from unionfs.overlay import Options, Stack, Union
from unionfs.overlay.recovery import Found


class HandedOver(Live):
    """A union whose workers keep a journal."""

    def __init__(self, top: Path, lowers: list[Path], options: Options) -> None:
        super().__init__(top, lowers, options)
        self.journal = Journal(JournalFile(new_journal()))
        self.union.use_journal(self.journal)
        self.opens: dict[int, tuple[int, tuple[int, int]]] = {}
        """By node: how many passthrough opens the kernel has, of which real file."""

    def open_passthrough(self, node: int, flags: int) -> None:
        """The kernel opens a file; not where it must look the name up again."""
        try:
            self.client.call(self.union.open, node, flags, ROOT)
            real = self._real_file(node)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return
        count, known = self.opens.get(node, (0, real))
        assert known == real, "all opens of a node are of one file"
        self.union.pin(node)
        self.opens[node] = count + 1, real

    def release(self, node: int) -> None:
        """It closes all of them."""
        count, _ = self.opens.pop(node)
        for _ in range(count):
            self.union.unpin(node)

    def _real_file(self, node: int) -> tuple[int, int]:
        st = os.fstat(self.client.call(self.union.backing_fd, node))
        return st.st_dev, st.st_ino

    def _recover_opens(self) -> None:
        """As `unionfs.fuse.backing.BackingFiles.recover`."""
        for node, (count, real) in self.opens.items():
            for _ in range(count):
                self.union.pin(node)
            if self._real_file(node) != real:
                self.union.leave_behind(node)

    @property
    def record(self) -> Record:
        """What the registry has of the mount, if nothing is under way."""
        return cast(Record, SimpleNamespace(lowers=[str(layer.path) for layer in self.union.lowers], upper=str(self.upper)))

    def take(self, name: str | None = None) -> Any:
        """A snapshot, of which the kernel is told and the next worker would know."""
        self.union.begin_change()
        taken = super().take(name)
        self.union.end_change()
        return taken

    def merge(self, *numbers: int) -> None:
        """The same for a merge."""
        merging = self.union.prepare_merge(numbers)
        merging.prepare()
        self.union.begin_change()
        self.kernel.tell(merging.take())
        self.union.end_change()

    def kill(self) -> None:
        """The worker is no more; what it had open is closed but for what the next one needs."""
        tree = self.union._tree
        tree._close_layers()
        for layer in self.union._detached._layers:
            layer.close()
        for inode in tree.nodes:
            if inode.copying is not None:
                inode.copying.abandon()

    def take_over(self) -> Found:
        """The next worker takes over, after the last request was answered."""
        self.journal.flush()
        return self.go_on()

    def go_on(self, record: Record | None = None) -> Found:
        """The next worker takes over where this one is; ``record``: what the registry has, if that is of before a change."""
        written = self.union._tree.nodes.written
        self.kill()
        file = JournalFile(self.journal._file._fd)
        recovered = read_journal(file, no_intent, open_descriptors())
        self.snapshots.recover(self.work, goes_on=True)
        chain = self.snapshots.chain()
        lowers = lowers_of(record or self.record, chain)
        assert set(chain) <= set(lowers)
        stack = Stack(lowers, self.upper, self.work, former_uppers=frozenset(chain), goes_on=True)
        self.client.union = Union(stack, self.options)
        recovered.backings.update(
            (node, Backing(1, count, *real, is_written=node in written)) for node, (count, real) in self.opens.items()
        )
        found = self.union.recover(recovered)
        self.journal = Journal(file)
        self.union.use_journal(self.journal)
        self.union.note_recovered(recovered)
        self._recover_opens()
        self.kernel.tell(notice for notice in self.union.notices if not hasattr(notice, "nodes"))
        self.union.notices.clear()
        self.journal.flush()
        if recovered.unsettled:
            self.kernel = Memory(self.client)
            self.union.end_change()
        return found

    def known(self) -> dict[int, Any]:
        """All nodes that the kernel holds: how often, what attributes they have and what is in them."""
        return {
            inode.node: (inode.nlookup, self._attributes(inode.node), self._contents(inode.node))
            for inode in list(self.union._nodes)
            if inode.nlookup > 0
        }

    def _attributes(self, node: int) -> Any:
        attr = self.union.getattr(node)
        is_directory = attr.mode >> 12 == 4
        # How many links a directory has tells whether it was copied up.
        return attr.ino, attr.mode, attr.uid, attr.gid, *(() if is_directory else (attr.nlink, attr.size))

    def _contents(self, node: int) -> Any:
        contents = self.kernel._read(node, self.union.getattr(node).mode >> 12)
        return contents, sorted(self.client.call(self.union.listxattr, node, ROOT))
