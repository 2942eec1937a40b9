"""Reading a journal: what was so when its last writer ended."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from unionfs.journal import records
from unionfs.journal.journal import CARRIED_OUT_AGAIN, Reply
from unionfs.journal.records import Act, Kind
from unionfs.journal.storage import (
    ATIME,
    LAST_BACKING,
    LAST_NODE,
    MTIME,
    NOT_RESENT,
    TIMES_OF,
    UNSETTLED,
    Answer,
    JournalFile,
)


@dataclass(slots=True)
class NodeState:
    """A node that the kernel may know.

    Attributes:
        nlookup: how often it was looked up.
        names: its dentries, (node id of the parent, name).
        successor: the node that stands for it; 0: itself.
        ino, kind: of a node without names: the number shown, and the ``DT_*`` type.
        fd: of such a one: what its object is open as, or -1.
        layer, path: of such a one that is not open: where it lies.
        data_layer, data_path: of such a one whose data is elsewhere: where that is.
    """

    nlookup: int
    names: list[tuple[int, bytes]] = field(default_factory=list)
    successor: int = 0
    ino: int = 0
    kind: int = 0
    fd: int = -1
    layer: bytes = b""
    path: bytes = b""
    data_layer: bytes = b""
    data_path: bytes = b""


class Backing(NamedTuple):
    """What the kernel had open of a node in passthrough; ``id`` 0: through its page cache."""

    id: int
    opens: int
    device: int
    ino: int
    is_written: bool


class Intent(NamedTuple):
    """What the last request was about to do: see `unionfs.journal.journal.Journal.intend`.

    Attributes:
        unique: of the request.
        request: all of it.
        act: what it is.
        parent, name: the dentry that comes or goes; for attributes: the node, and the attribute's name.
        new_parent, new_name: the second dentry, if there are two.
        made: the node that gets a name more.
        value: of the attribute that is set.
        states: how nodes are once it is done.
        moved: the real inode number of what moves; 0: nothing does, or nothing was where it moves to.
    """

    unique: int
    request: memoryview
    act: Act
    parent: int
    name: bytes = b""
    new_parent: int = 0
    new_name: bytes = b""
    made: int = 0
    value: bytes = b""
    states: Mapping[int, NodeState] = MappingProxyType({})
    moved: int = 0


class Times(NamedTuple):
    """What a directory (node id) shall have, whose times were about to move for nothing that anybody should see: nanoseconds."""

    directory: int
    atime_ns: int
    mtime_ns: int


@dataclass(slots=True)
class Recovered:
    """All that a journal says.

    Attributes:
        nodes: by node id.
        backings: by node id.
        closed: ids of backing files that were of no use any more; they may still be registered.
        inos: the inode numbers shown for real ones that say something else of themselves.
        numbers: the inode numbers that nodes go on showing, whatever the layers say.
        orders: the names of directories (node ids) as they are listed, by generation.
        last_node, last_backing: the highest ids there were.
        replies: to requests that were carried out but perhaps not answered, by unique.
        intent: of the request after that, if it came so far.
        unsettled: whether a change of the layers was under way.
        times: of the directory that something was just put into by a copy-up.
        moved: the real inode number of what was last renamed.
        changed: node ids; whoever finds that their names are others than it says puts them in.
        opened: the descriptors that are open.
    """

    nodes: dict[int, NodeState] = field(default_factory=dict)
    backings: dict[int, Backing] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    inos: dict[int, int] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    orders: dict[int, dict[int, list[bytes]]] = field(default_factory=dict)
    last_node: int = 0
    last_backing: int = 0
    replies: dict[int, Reply] = field(default_factory=dict)
    intent: Intent | None = None
    unsettled: bool = False
    times: Times | None = None
    moved: int = 0
    changed: set[int] = field(default_factory=set)
    opened: Container[int] = range(1 << 31)
    _holders: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """The node that was the last to get a dentry."""
    _replaced: set[int] = field(default_factory=set)
    """Nodes that have lost their last name to others."""

    @property
    def descriptors(self) -> set[int]:
        """The open files that are named in it."""
        found = {state.fd for state in self.nodes.values()}
        if self.intent is not None:
            found |= {state.fd for state in self.intent.states.values()}
        return {fd for fd in found if fd in self.opened}


def read_journal(
    file: JournalFile, intent_of: Callable[[int, memoryview], Intent], opened: Container[int] = range(1 << 31)
) -> Recovered:
    """What ``file`` says.

    Args:
        file: the memory.
        intent_of: makes an intent of its form and the request that it is about.
        opened: the descriptors that are open now: soon another number may mean another file.
    """
    found = Recovered(opened=opened)
    numbers = file.numbers
    last_unique, answer = 0, 0
    for unique, how, transaction in file.transactions():
        last_unique, answer = unique & NOT_RESENT, how
        _take(found, transaction)
    found.last_node = max(found.last_node, numbers[LAST_NODE], *found.nodes)
    _forget_replaced(found)
    for state in found.nodes.values():
        if state.fd not in opened:
            state.fd = -1
    found.last_backing = numbers[LAST_BACKING]
    found.unsettled = numbers[UNSETTLED] != 0
    if numbers[TIMES_OF]:
        found.times = Times(numbers[TIMES_OF], _signed(numbers[ATIME]), _signed(numbers[MTIME]))
    if last_unique:
        reply = _reply(file, last_unique, answer)
        if reply is not None:
            found.replies[last_unique] = reply
    intended = file.read_intent()
    if intended is not None:
        intent = intent_of(*intended)
        after = Recovered()
        _take(after, file.read_prepared(intent.unique))
        found.intent = intent._replace(states=after.nodes, moved=after.moved)
    return found


def _signed(number: int) -> int:
    """Times before 1970 are negative."""
    return number - (1 << 64) if number >> 63 else number


def _reply(file: JournalFile, unique: int, answer: int) -> Reply | None:
    if answer in (Answer.DONE, Answer.PREPARED):
        return Reply(unique, 0, b"")
    if answer == Answer.AGAIN:
        return Reply(unique, CARRIED_OUT_AGAIN, b"")
    kept_for, error, payload = file.read_reply()
    return Reply(unique, error, payload) if kept_for & NOT_RESENT == unique else None


def _take(found: Recovered, transaction: memoryview) -> None:
    for kind, body in records.split(transaction):
        _TAKE[Kind(kind)](found, body)


def _forget_replaced(found: Recovered) -> None:
    """What has lost its name to another one, and nothing tells what it is since, the kernel had forgotten before: that was not
    yet written down."""
    for node in found._replaced:
        if node in found.nodes and not found.nodes[node].names:
            _forget(found, node)


def _give_name(found: Recovered, node: int, dentry: tuple[int, bytes]) -> None:
    """``node`` has this dentry now, and no other node has it any more."""
    found.nodes[node].names.append(dentry)
    before = found._holders.get(dentry, node)
    found._holders[dentry] = node
    state = found.nodes.get(before) if before != node else None
    if state is not None and dentry in state.names:
        state.names.remove(dentry)
        if not state.names:
            found._replaced.add(before)


def _take_node(found: Recovered, body: memoryview) -> None:
    node, nlookup, parent, name = records.node_body(body)
    found.nodes[node] = NodeState(nlookup)
    _give_name(found, node, (parent, name))


def _take_run(found: Recovered, body: memoryview) -> None:
    first, parent, names = records.run_body(body)
    for node, name in enumerate(names, first):
        found.nodes[node] = NodeState(1)
        _give_name(found, node, (parent, name))


def _take_name(found: Recovered, body: memoryview) -> None:
    node, parent, name = records.pair_body(body)
    state = found.nodes.get(node)
    if state is not None and (parent, name) not in state.names:
        _give_name(found, node, (parent, name))


def _take_no_name(found: Recovered, body: memoryview) -> None:
    node, parent, name = records.pair_body(body)
    state = found.nodes.get(node)
    if state is not None and (parent, name) in state.names:
        state.names.remove((parent, name))


def _take_count(found: Recovered, body: memoryview) -> None:
    node, nlookup, _ = records.pair_body(body)
    if node in found.nodes:
        found.nodes[node].nlookup = nlookup


def _take_unnamed(found: Recovered, body: memoryview) -> None:
    node, nlookup, ino, kind, fd, places = records.unnamed_body(body)
    found.nodes[node] = NodeState(nlookup, [], 0, ino, kind, fd, *places)
    found._replaced.discard(node)


def _take_succeeded(found: Recovered, body: memoryview) -> None:
    node, nlookup, successor, _ = records.node_body(body)
    found.nodes[node] = NodeState(nlookup, successor=successor)
    found._replaced.discard(node)


def _take_moved(found: Recovered, body: memoryview) -> None:
    found.moved = records.about(body)


def _take_gone(found: Recovered, body: memoryview) -> None:
    for node in records.nodes_body(body):
        found.last_node = max(found.last_node, node)
        _forget(found, node)


def _forget(found: Recovered, node: int) -> None:
    found.nodes.pop(node, None)
    found.orders.pop(node, None)
    found.numbers.pop(node, None)
    _close(found, node)


def _close(found: Recovered, node: int) -> None:
    backing = found.backings.pop(node, None)
    if backing is not None:
        found.closed.add(backing.id)


def _take_closed(found: Recovered, body: memoryview) -> None:
    for node in records.nodes_body(body):
        _close(found, node)


def _take_backing(found: Recovered, body: memoryview) -> None:
    node, device, ino, backing_id, opens, is_written = records.backing_body(body)
    before = found.backings.get(node)
    if before is not None and before.id != backing_id:
        found.closed.add(before.id)
    found.backings[node] = Backing(backing_id, opens, device, ino, is_written)


def _take_released(found: Recovered, body: memoryview) -> None:
    for node in records.nodes_body(body):
        if node in found.backings:
            found.backings[node] = found.backings[node]._replace(opens=0, is_written=False)


def _take_ino(found: Recovered, body: memoryview) -> None:
    real, shown, _ = records.pair_body(body)
    found.inos.pop(real, None)
    if shown:
        found.inos[real] = shown


def _take_number(found: Recovered, body: memoryview) -> None:
    node, ino, _ = records.pair_body(body)
    found.numbers.pop(node, None)
    if ino:
        found.numbers[node] = ino


def _take_order(found: Recovered, body: memoryview) -> None:
    directory, generation, names = records.order_body(body)
    lists = found.orders.setdefault(directory, {})
    lists.pop(generation, None)
    lists[generation] = names.split(b"\0") if names else []


def _take_listed(found: Recovered, body: memoryview) -> None:
    directory, generation, name = records.order_body(body)
    lists = found.orders.get(directory, {})
    if generation in lists:
        lists[generation].append(name)


def _take_reply(found: Recovered, body: memoryview) -> None:
    reply = Reply(*records.reply_body(body))
    found.replies[reply.unique] = reply


def _take_answered(found: Recovered, body: memoryview) -> None:
    found.replies.pop(records.about(body), None)


_TAKE = {
    Kind.NODE: _take_node,
    Kind.RUN: _take_run,
    Kind.NAME: _take_name,
    Kind.NO_NAME: _take_no_name,
    Kind.COUNT: _take_count,
    Kind.UNNAMED: _take_unnamed,
    Kind.SUCCEEDED: _take_succeeded,
    Kind.GONE: _take_gone,
    Kind.CLOSED: _take_closed,
    Kind.MOVED: _take_moved,
    Kind.BACKING: _take_backing,
    Kind.RELEASED: _take_released,
    Kind.INO: _take_ino,
    Kind.ORDER: _take_order,
    Kind.LISTED: _take_listed,
    Kind.REPLY: _take_reply,
    Kind.ANSWERED: _take_answered,
    Kind.NUMBER: _take_number,
}
