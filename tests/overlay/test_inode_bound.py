"""``max_inodes``: when the kernel is asked to forget inodes, and which."""

from __future__ import annotations

from collections import Counter

from tests.overlay.client import Client
from tests.overlay.conftest import Open
from unionfs.filesystem import ROOT_ID, Forgettable
from unionfs.overlay import Options

FILES, LIMIT = 1000, 100
TREE: dict[str, bytes | None] = {f"f{index:04}": b"" for index in range(FILES)}
OPTIONS = Options(max_inodes=LIMIT)


class Kernel:
    """Looks names up, and forgets what it is asked to, but for what is ``used``."""

    def __init__(self, client: Client) -> None:
        self._union = client.union
        self.nlookup: Counter[int] = Counter()
        self.used: set[int] = set()
        self.requests: list[list[int]] = []

    def look_up(self, name: str, parent: int = ROOT_ID) -> int:
        entry = self._union.lookup(parent, name.encode())
        assert entry is not None
        self.nlookup[entry.node] += 1
        self.hear()
        return entry.node

    def hear(self) -> None:
        """Do what the notices ask for, those that come of it too."""
        while self._union.notices:
            notice = self._union.notices.pop(0)
            assert isinstance(notice, Forgettable)
            self.requests.append(notice.nodes)
            for node in notice.nodes:
                if node not in self.used and (nlookup := self.nlookup.pop(node, 0)):
                    self._union.forget(node, nlookup)

    @property
    def known(self) -> int:
        return self._union.statistics()["inodes"]


def test_number_of_inodes_never_passes_the_limit_where_the_kernel_can_forget(open_union: Open) -> None:
    kernel = Kernel(open_union(TREE, options=OPTIONS))
    for name in TREE:
        kernel.look_up(name)
        assert kernel.known <= LIMIT


def test_inodes_known_for_longest_go_first(open_union: Open) -> None:
    kernel = Kernel(open_union(TREE, options=OPTIONS))
    nodes = [kernel.look_up(name) for name in TREE]
    asked = [node for request in kernel.requests for node in request]
    assert asked == nodes[: len(asked)]


def test_without_a_limit_the_kernel_is_asked_nothing(open_union: Open) -> None:
    kernel = Kernel(open_union(TREE))
    for name in TREE:
        kernel.look_up(name)
    assert (kernel.requests, kernel.known) == ([], FILES + 1)


def test_kernel_that_cannot_forget_is_asked_in_proportion_to_what_is_new(open_union: Open) -> None:
    kernel = Kernel(open_union(TREE, options=OPTIONS))
    for name in TREE:
        kernel.used.add(kernel.look_up(name))
    assert 0 < len(kernel.requests) <= FILES // 64
    before = len(kernel.requests)
    for name in TREE:  # nothing new
        kernel.look_up(name)
    assert len(kernel.requests) == before


def test_all_go_when_they_are_not_used_any_more(open_union: Open) -> None:
    kernel = Kernel(open_union(TREE, options=OPTIONS))
    names = list(TREE)
    for name in names[:500]:
        kernel.used.add(kernel.look_up(name))
    assert kernel.known > 500
    kernel.used.clear()
    for name in names[500:]:
        kernel.look_up(name)
    assert kernel.known <= LIMIT


def test_directory_goes_after_what_is_in_it(open_union: Open) -> None:
    tree: dict[str, bytes | None] = {f"d{i}/f{j}": b"" for i in range(20) for j in range(20)}
    kernel = Kernel(open_union(tree, options=OPTIONS))
    held: dict[int, set[int]] = {}
    for i in range(20):
        directory = kernel.look_up(f"d{i}")
        held[directory] = {kernel.look_up(f"f{j}", directory) for j in range(20)}
    gone: set[int] = set()
    for request in kernel.requests:
        for node in request:
            assert held.get(node, set()) <= gone
            gone.add(node)
    assert gone & set(held)
    assert kernel.known <= LIMIT


def test_what_is_open_or_has_no_name_is_not_asked_for(open_union: Open) -> None:
    client = open_union(TREE, options=OPTIONS)
    kernel = Kernel(client)
    pinned, removed = kernel.look_up("f0000"), kernel.look_up("f0001")
    client.union.pin(pinned)
    client.union.unlink(ROOT_ID, b"f0001")
    client.union.notices.clear()
    for name in list(TREE)[2:]:
        kernel.look_up(name)
    assert not {pinned, removed} & {node for request in kernel.requests for node in request}
