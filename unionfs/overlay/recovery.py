"""Taking over from another worker that served the same union: the inodes that the kernel knows, found again in the layers.

What the journal has is a node id and a name for each of them; all else is what a lookup finds.  One thing may have happened of
which it does not know: the system call that its `Intent` tells of.  Whether it did shows at the names that it is about, so these
are looked at first, and the names are put right before anything is looked for below them.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from unionfs.filesystem import ROOT_ID, StaleAttributes, call_now
from unionfs.journal.records import Act
from unionfs.journal.recovered import Intent, NodeState, Recovered
from unionfs.linux.links import fd_path
from unionfs.overlay import kinds
from unionfs.overlay.data_place import Data, DataPlace, SoughtData
from unionfs.overlay.detached_layers import DetachedLayers
from unionfs.overlay.former_layers import FormerLayers
from unionfs.overlay.id_map import ACL_PREFIX
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer, RealDir, stat_in
from unionfs.overlay.listing import kind_of
from unionfs.overlay.listing_order import ListingOrder
from unionfs.overlay.metacopy import guess_blocks
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the request that an intent told of.

    Attributes:
        done: it was carried out.
        lost: how many nodes that the kernel may know were not found again; it gets ESTALE for them.
    """

    done: bool
    lost: int


def recover(tree: Tree, recovered: Recovered, detached: DetachedLayers) -> Found:
    """Make the inodes known under their node ids; ``tree`` is fresh.  ``detached`` gets the layers that are no part of it, but in
    use.

    Raises:
        OSError: the root, or a directory that the intent is about, cannot be read.
    """
    recovery = _Recovery(tree, recovered, detached)
    recovery.give_times_back()
    done = recovery.settle_intent()
    recovery.find_all()
    return Found(done, recovery.lost)


class _Recovery:
    def __init__(self, tree: Tree, recovered: Recovered, detached: DetachedLayers) -> None:
        self._tree = tree
        self._former = FormerLayers(tree, detached)
        self._states = recovered.nodes
        self._recovered = recovered
        self._missing: set[int] = set()
        self._next_id = max(recovered.last_node, ROOT_ID) + 1
        """Of the first node that no worker knew."""
        tree.copied_up_inos.update(recovered.inos)
        tree.nodes.numbers.begin_recovery(recovered.numbers)
        tree.nodes.numbers.settle(tree.root)

    @property
    def lost(self) -> int:
        return sum(1 for node in self._missing if self._states[node].nlookup)

    # -- names ------------------------------------------------------------------------------------------------------------

    def find_all(self) -> None:
        """Find all that the states tell of."""
        nodes, states = self._tree.nodes, self._states
        successors = {state.successor for state in states.values()}
        # What nobody holds is found if something lies in it.  Else it might take the id that another name of the same file has.
        needed = [node for node, state in states.items() if state.nlookup > 0 or node in successors]
        for node in needed:
            if states[node].names:
                self._find(node)
        for node in needed:
            state = states[node]
            if not state.names and not state.successor and not self._is_settled(node):
                self._restore_unnamed(node, state)
        self._former.remove_unused()
        nodes.take_id(self._next_id)
        # The youngest first: what stands for one may have been left behind as well.
        for node, state in sorted(states.items(), reverse=True):
            if state.successor:
                self._restore_stale(node, state)
        nodes.numbers.end_recovery()
        self._restore_orders()
        known = list(nodes)
        for inode in known:
            inode.nlookup = states[inode.node].nlookup if inode.node in states else 0
        for inode in known:
            nodes.release(inode)
        nodes.written.update(self._written())

    def _written(self) -> Iterator[int]:
        """The nodes that the kernel may write to by itself.  A release may not have been written down, so what is said to be open
        may be what a snapshot has frozen since."""
        for node, backing in self._recovered.backings.items():
            inode = self._tree.nodes.find(node)
            if backing.id and backing.is_written and inode is not None and inode.is_upper and inode.successor is None:
                yield node

    def _restore_orders(self) -> None:
        for node, lists in self._recovered.orders.items():
            directory = self._tree.nodes.find(node)
            if not isinstance(directory, Directory) or not lists:
                continue
            order = directory.order = ListingOrder.restored(lists)
            for name in self._tree.names(directory) if self._recovered.unsettled else ():
                order.add(name)  # what a change of the layers brought was not written down yet

    def _find(self, node: int) -> None:
        """Find a node by its names, and before it the directories that it lies in."""
        waiting = [node]
        while waiting:
            node = waiting[-1]
            unknown = [parent for parent, _ in self._states[node].names if not self._is_settled(parent)]
            if unknown:
                waiting += unknown
                continue
            waiting.pop()
            if not self._is_settled(node):
                self._find_in_parents(node)

    def _is_settled(self, node: int) -> bool:
        return self._tree.nodes.find(node) is not None or node in self._missing or node not in self._states

    def _find_in_parents(self, node: int) -> None:
        tree, nodes = self._tree, self._tree.nodes
        for parent, name in self._states[node].names:
            directory = nodes.find(parent)
            if not isinstance(directory, Directory):
                continue
            # Where its names lead to files of their own by now, the first that is found is its.
            nodes.take_id(self._next_id if nodes.find(node) is not None else node)
            try:
                found = call_now(tree.find, directory, name)
            except OSError as error:
                _log.warning("%s, which is in use, cannot be found again: %s", os.fsdecode(name), error.strerror)
                continue
            self._next_id = max(self._next_id, found[0].node + 1) if found is not None else self._next_id
            if found is None or found[0].node != node:
                _log.warning("%s, which is in use, is not what it was", os.fsdecode(name))
        if nodes.find(node) is None:
            self._missing.add(node)

    # -- what has no name -------------------------------------------------------------------------------------------------

    def _restore_unnamed(self, node: int, state: NodeState) -> None:
        try:
            inode = self._opened(node, state) if state.fd >= 0 else self._unopened(node, state)
        except OSError as error:
            _log.warning("node %d, which has no name, cannot be found again: %s", node, error.strerror)
            inode = None
        if inode is None:
            self._missing.add(node)
            return
        self._tree.nodes.add(inode)
        self._tree.nodes.numbers.settle_unnamed(inode)

    def _opened(self, node: int, state: NodeState) -> Inode:
        tree = self._tree
        root = tree.upper_layer.root
        if state.kind == kinds.DIR:
            directory = Directory(node, state.ino, root, ())
            directory.upper_names, directory.lower_names = {}, {}
            directory.orphan_fd = state.fd
            return directory
        inode = Inode(node, state.ino, state.kind, root, b"")
        inode.orphan_fd = state.fd
        st = os.fstat(state.fd)
        if st.st_nlink:
            # It has names that nobody asked for.
            tree.nodes.add_hard_link(inode, st.st_ino)
        elif tree.work.limit is not None:
            tree.work.limit.charge(st.st_blocks * 512)
        # It may have got its data since that was written down.
        if state.data_path and tree.xattrs.metacopy(fd_path(state.fd), follow=True) is not None:
            inode.data = self._data_of(inode, state)
        return inode

    def _data_of(self, inode: Inode, state: NodeState) -> Data:
        """Where the data of a removed file is that is elsewhere.

        Raises:
            OSError: ENOENT: it is not there any more.
        """
        if not state.data_layer:
            return SoughtData(state.data_path, guess_blocks(self._tree.stat(inode)))
        found = self._in_layers(state.data_layer, state.data_path) or self._former.find_data(inode.node, state)
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(state.data_path))
        place, name = _place_of(*found)
        return DataPlace(place, name, place.ask(self._tree.pool, stat_in, name).st_blocks)

    def _in_layers(self, recorded: bytes, path: bytes) -> tuple[Layer, bytes] | None:
        return next(((layer, path) for layer in self._layers() if os.fsencode(layer.path) == recorded), None)

    def _unopened(self, node: int, state: NodeState) -> Inode | None:
        """A lower object that was removed from the union."""
        found = self._in_layers(state.layer, state.path) or self._former.find(node, state)
        if found is None:
            return None
        layer, _ = found
        place, last = _place_of(*found)
        if state.kind == kinds.DIR:
            directory = Directory(node, state.ino, None, (RealDir(layer, place, last),))
            directory.upper_names, directory.lower_names = {}, {}
            return directory
        inode = Inode(node, state.ino, state.kind, place, last)
        if state.data_path:
            inode.data = self._data_of(inode, state)
        index = self._tree.index
        if index is not None and layer is index.place.layer:
            # It has other names, which nobody has asked for.
            found_links = index.links_of(last)
            if found_links is not None:
                links, st = found_links
                self._tree.nodes.add_lower_links(inode, links)
                self._tree.nodes.add_hard_link(inode, st.st_ino)
        return inode

    def _layers(self) -> list[Layer]:
        tree = self._tree
        return [*tree.lowers, *([tree.index.place.layer] if tree.index is not None else ())]

    def _restore_stale(self, node: int, state: NodeState) -> None:
        nodes = self._tree.nodes
        successor = nodes.find(state.successor)
        if successor is None:
            self._missing.add(node)
            return
        stale = Inode(node, successor.ino, successor.kind, successor.place, successor.place_name)
        nodes.add(stale)
        nodes.succeed(stale, successor)
        # Of the last change by way of either the kernel may not have been told.
        self._tree.notices += [StaleAttributes(node), StaleAttributes(successor.node)]

    # -- the intent ---------------------------------------------------------------------------------------------------------

    def settle_intent(self) -> bool:
        """Put right what the last system call may have changed; whether it did."""
        intent = self._recovered.intent
        if intent is None:
            return False
        if intent.act in (Act.SET_XATTR, Act.REMOVE_XATTR):
            return self._xattr_is_done(intent)
        parent = self._directory(intent.parent)
        if parent is None:
            return False
        if intent.act is Act.CREATE:
            self._undo(parent, intent.name)
            return False
        if intent.act is Act.APPEAR:
            return self._appeared(parent, intent)
        if intent.act is Act.REMOVE:
            return self._removed(parent, intent)
        return self._moved(parent, intent)

    def give_times_back(self) -> None:
        """Let a directory have the times that it had before a copy-up put something into it."""
        times = self._recovered.times
        directory = None if times is None else self._directory(times.directory)
        if times is not None and directory is not None and directory.upper is not None:
            os.utime(fd_path(self._tree.dir_fd(directory.upper)), ns=(times.atime_ns, times.mtime_ns))

    def _directory(self, node: int) -> Directory | None:
        if node != ROOT_ID and node in self._states:
            self._find(node)
        found = self._tree.nodes.find(node)
        return found if isinstance(found, Directory) else None

    def _upper_stat(self, directory: Directory, name: bytes) -> os.stat_result | None:
        """What the upper layer has under a name that it shows: no whiteout."""
        tree = self._tree
        if call_now(tree.kind, directory, name) is None or not tree.has_upper(directory, name) or directory.upper is None:
            return None
        return os.stat(name, dir_fd=tree.dir_fd(directory.upper), follow_symlinks=False)

    def _undo(self, parent: Directory, name: bytes) -> None:
        """Remove what was made but perhaps not finished.  Nobody has seen it, and it will be made again."""
        st = self._upper_stat(parent, name)
        if st is None or parent.upper is None or self._tree.has_lower(parent, name):
            return
        fd = self._tree.dir_fd(parent.upper)
        (os.rmdir if stat.S_ISDIR(st.st_mode) else os.unlink)(name, dir_fd=fd)
        parent.upper_names = None

    def _appeared(self, parent: Directory, intent: Intent) -> bool:
        if self._upper_stat(parent, intent.name) is None:
            return False
        node, states = intent.made, self._states
        while node in states and states[node].successor:
            node = states[node].successor
        if node in states and (intent.parent, intent.name) not in states[node].names:
            states[node].names.append((intent.parent, intent.name))
        self._recovered.changed.add(node)
        return True

    def _removed(self, parent: Directory, intent: Intent) -> bool:
        if call_now(self._tree.kind, parent, intent.name) is not None:
            return False
        self._lose(intent.parent, intent.name, intent)
        return True

    def _moved(self, parent: Directory, intent: Intent) -> bool:
        new_parent = self._directory(intent.new_parent)
        if new_parent is None:
            return False
        arrived = self._upper_stat(new_parent, intent.new_name)
        if arrived is None or (intent.moved and arrived.st_ino != intent.moved):
            return False
        old, new = (intent.parent, intent.name), (intent.new_parent, intent.new_name)
        moved = self._named(*old)
        if intent.act is Act.EXCHANGE:
            self._rename(self._named(*new), new, old)
        else:
            self._leave_old_name(parent, intent)
            self._lose(*new, intent)
        self._rename(moved, old, new)
        return True

    def _named(self, parent: int, name: bytes) -> int:
        """The node that has this name; 0: none."""
        return next((node for node, state in self._states.items() if (parent, name) in state.names), 0)

    def _leave_old_name(self, parent: Directory, intent: Intent) -> None:
        """Where the filesystem cannot leave a whiteout in one step, what was replaced may be at the old name."""
        left = self._upper_stat(parent, intent.name)
        if left is None or parent.upper is None:
            return
        hide = self._tree.whiteouts.hide_directory if kind_of(left) == kinds.DIR else self._tree.whiteouts.hide
        hide(parent.upper, intent.name)
        parent.upper_names = None

    def _lose(self, parent: int, name: bytes, intent: Intent) -> None:
        """What had this name has it no more."""
        node = self._named(parent, name)
        if not node:
            return
        state = self._states[node]
        state.names.remove((parent, name))
        if not state.names and node in intent.states:
            self._states[node] = intent.states[node]
        self._recovered.changed.add(node)

    def _rename(self, node: int, old: tuple[int, bytes], new: tuple[int, bytes]) -> None:
        if node:
            state = self._states[node]
            state.names = [dentry for dentry in state.names if dentry not in (old, new)]
            state.names.append(new)
            self._recovered.changed.add(node)

    def _xattr_is_done(self, intent: Intent) -> bool:
        """Whether an attribute that was not there has come, or one that was there has gone."""
        state = self._states.get(intent.parent)
        if state is not None and state.names:
            self._find(intent.parent)
        elif state is not None:
            self._restore_unnamed(intent.parent, state)
        inode = self._tree.nodes.find(intent.parent)
        stored = self._tree.xattrs.stored_name(intent.name)
        if inode is None or stored is None:
            return False
        target, follow = self._tree.target(inode)
        try:
            value = os.getxattr(target, stored, follow_symlinks=follow)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return intent.act is Act.REMOVE_XATTR
        ids, wanted = self._tree.ids, intent.value
        if ids is not None and intent.name.startswith(ACL_PREFIX):
            wanted = ids.stored_acl(wanted)
        return intent.act is Act.SET_XATTR and value == wanted


def _place_of(layer: Layer, path: bytes) -> tuple[RealDir, bytes]:
    """The real directory that a path in a layer leads to, and the name in there."""
    place = layer.root
    *names, last = path.split(b"/")
    for name in names:
        place = RealDir(layer, place, name)
    return place, last
