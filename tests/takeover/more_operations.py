"""What the kernel asks besides the operations of `tests.faults.operations`: requests that change nothing but what is known, and
sequences of requests, during each of which the worker may die."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import cast

from tests.faults.operations import CONFIGURATIONS, LINKED, Bind, Operation
from tests.overlay.client import ROOT, Client
from tests.takeover.kernel import Kernel
from unionfs.filesystem import SET_MODE, SET_SIZE, Changes, DirRow
from unionfs.fuse.protocol import WRITE_CACHE
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options

Step = Callable[[Kernel], object]

_LONG = "n" * 255
_MANY = 280
"""So many names of 240 bytes and more are too long for one segment of the journal."""


def _kernel(client: Client) -> Kernel:
    return cast(Kernel, client.union)


def each(*binds: Callable[[Client, Kernel], Iterable[Callable[[], object]]]) -> Bind:
    """One call after the other, whatever becomes of those before."""

    def bind(client: Client) -> Callable[[], object]:
        calls = [call for bound in binds for call in bound(client, _kernel(client))]

        def run() -> None:
            for call in calls:
                try:
                    call()
                except OSError:
                    continue  # it is among the answers

        return run

    return bind


Calls = Iterable[Callable[[], object]]


def _lookups(client: Client, kernel: Kernel) -> Calls:
    parent = client.node("d")
    for name in (b"f", b"absent", b"f", b"sub"):
        yield lambda name=name: kernel.lookup(parent, name)


def _lookups_of_links(client: Client, kernel: Kernel) -> Calls:
    places = [client.place(path) for path in ("d/f", "f", "d/sub/f")]
    for place in places:
        yield lambda place=place: kernel.lookup(*place)
    yield lambda: kernel.setattr(kernel.lookup(*places[1]).node, Changes(SET_MODE, mode=0o600))  # type: ignore[union-attr]
    yield lambda: kernel.unlink(*places[0])
    yield lambda: kernel.lookup(*places[2])


def _forgets(client: Client, kernel: Kernel) -> Calls:
    parent, node = client.node("d"), client.node("d/f")
    yield lambda: kernel.forget(node, 1)
    yield lambda: kernel.lookup(parent, b"f")
    yield lambda: kernel.forget(node, 1)
    yield lambda: kernel.mkdir(parent, b"new", 0o755, ROOT)


def _use_removed(path: str) -> Callable[[Client, Kernel], Calls]:
    def bind(client: Client, kernel: Kernel) -> Calls:
        node, place = client.node(path), client.place(path)
        yield lambda: kernel.unlink(*place)
        yield lambda: kernel.read(node, 0, 100)
        yield lambda: kernel.write(node, 2, b"after its end")
        yield lambda: kernel.setattr(node, Changes(SET_SIZE, size=7))
        yield lambda: kernel.setxattr(node, b"trusted.new", b"value", os.XATTR_CREATE)
        yield lambda: kernel.create(*place, os.O_WRONLY, 0o600, ROOT)
        yield lambda: kernel.getattr(node)

    return bind


def _attribute_of_removed(client: Client, kernel: Kernel) -> Calls:
    node = client.node("d/f")
    client.unlink("d/f")
    yield lambda: kernel.setxattr(node, b"trusted.new", b"value", os.XATTR_CREATE)


def _use_removed_directory(path: str) -> Callable[[Client, Kernel], Calls]:
    def bind(client: Client, kernel: Kernel) -> Calls:
        node, place = client.node(path), client.place(path)
        yield lambda: kernel.rmdir(*place)
        yield lambda: list(kernel.readdir(node, 0))
        yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o700))
        yield lambda: kernel.mkdir(node, b"in it", 0o755, ROOT)
        yield lambda: kernel.mkdir(*place, 0o755, ROOT)
        yield lambda: kernel.getattr(node)

    return bind


def _life_of_unnamed(client: Client, kernel: Kernel) -> Calls:
    parent = client.node("e")
    nodes: list[int] = []
    yield lambda: nodes.append(kernel.tmpfile(parent, stat.S_IFREG | 0o600, ROOT)[0].node)
    yield lambda: kernel.write(nodes[0], 0, b"unnamed")
    yield lambda: kernel.link(nodes[0], parent, b"named")
    yield lambda: kernel.link(nodes[0], parent, b"again")
    yield lambda: kernel.unlink(parent, b"named")
    yield lambda: kernel.unlink(parent, b"again")
    yield lambda: kernel.read(nodes[0], 0, 100)


def _xattrs(client: Client, kernel: Kernel) -> Calls:
    node = client.node("d/f")
    for flags in (os.XATTR_CREATE, os.XATTR_CREATE, os.XATTR_REPLACE, 0):
        yield lambda flags=flags: kernel.setxattr(node, b"user.new", b"value %d" % flags, flags)
    yield lambda: kernel.removexattr(node, b"user.new")
    yield lambda: kernel.removexattr(node, b"user.new")


def _cached_writes(client: Client, kernel: Kernel) -> Calls:
    node, other = client.node("d/f"), client.node("e/only")
    yield lambda: kernel.write(node, 0, b"from the cache", WRITE_CACHE)
    yield lambda: kernel.copy_file_range(node, 0, other, 4, 6)
    yield lambda: kernel.write(node, 1 << 12, bytes(1 << 16), WRITE_CACHE)


def _renames(client: Client, kernel: Kernel) -> Calls:
    d, e, replaced = client.node("d"), client.node("e"), client.node("d/h")
    yield lambda: kernel.rename(d, b"f", e, os.fsencode(_LONG), 0)
    yield lambda: kernel.rename(e, os.fsencode(_LONG), d, b"h", 0)
    yield lambda: kernel.read(replaced, 0, 100)
    yield lambda: kernel.write(replaced, 0, b"no more")
    yield lambda: kernel.rename(d, b"h", e, b"only", RENAME_EXCHANGE)
    yield lambda: kernel.rename(d, b"h", e, b"only", RENAME_EXCHANGE)
    yield lambda: kernel.rename(d, b"h", d, os.fsencode(_LONG), 0)


def _directory_renames(client: Client, kernel: Kernel) -> Calls:
    root, d, e = client.node(""), client.node("d"), client.node("e")
    yield lambda: kernel.rename(root, b"d", e, b"moved", 0)
    yield lambda: kernel.create(d, b"new", os.O_WRONLY, 0o644, ROOT)
    yield lambda: kernel.rename(e, b"moved", root, b"d", 0)
    yield lambda: kernel.rename(d, b"sub", e, b"empty", 0)
    yield lambda: kernel.rename(root, b"d", root, b"e", RENAME_EXCHANGE)


def _refused(client: Client, kernel: Kernel) -> Calls:
    """What changes nothing; the checks come out the same the second time."""
    d, e = client.node("d"), client.node("e")
    yield lambda: kernel.mkdir(d, b"sub", 0o755, ROOT)
    yield lambda: kernel.mknod(d, b"f", stat.S_IFREG | 0o644, 0, ROOT)
    yield lambda: kernel.create(d, b"f", os.O_WRONLY, 0o644, ROOT)
    yield lambda: kernel.unlink(d, b"absent")
    yield lambda: kernel.rmdir(e, b"only")
    yield lambda: kernel.rename(d, b"f", d, b"sub", 0)
    yield lambda: kernel.link(client.node("d/f"), d, b"h")


def _listing(path: str, plus: bool) -> Callable[[Client, Kernel], Calls]:
    """A reader that goes on while names come and go: those that stay it sees once, and nothing twice."""

    def bind(client: Client, kernel: Kernel) -> Calls:
        node, rows = client.node(path), list[DirRow]()
        read = kernel.readdirplus_page if plus else kernel.readdir_page
        size = 512 if plus else 96

        def go_on() -> None:
            rows.extend(read(node, rows[-1].offset if rows else 0, size))

        def finish() -> None:
            while page := read(node, rows[-1].offset, size):
                rows.extend(page)
            names = [row.name for row in rows]
            assert len(set(names)) == len(names), f"twice in {names}"

        yield go_on
        yield lambda: kernel.create(node, b"new", os.O_WRONLY, 0o644, ROOT)
        yield lambda: kernel.setattr(client.node(f"{path}/h"), Changes(SET_MODE, mode=0o600))
        yield go_on
        yield lambda: kernel.unlink(node, b"f")
        yield lambda: kernel.rename(node, b"h", node, b"moved", 0)
        yield finish

    return bind


def _make_many(client: Client) -> None:
    client.mkdir("many")
    for number in range(_MANY):
        client.write(f"many/{_LONG[:240]}{number}", b"")


def _long_listing(client: Client, kernel: Kernel) -> Calls:
    node = client.node("many")
    yield lambda: kernel.readdirplus_page(node, 0, 1 << 17)
    yield lambda: kernel.unlink(node, os.fsencode(f"{_LONG[:240]}7"))
    yield lambda: kernel.create(node, os.fsencode(_LONG), os.O_WRONLY, 0o644, ROOT)


def _lower_opened_for_writing(client: Client, kernel: Kernel) -> Calls:
    """The copy-up while it is open for reading leaves the node behind (ESTALE); its name leads to another one."""
    place, node = client.place("d/f"), client.node("d/f")
    successors: list[int] = []
    yield lambda: kernel.open(node, os.O_RDONLY)
    yield lambda: kernel.open(node, os.O_RDONLY)
    yield lambda: kernel.open(node, os.O_RDWR)
    yield lambda: successors.append(kernel.lookup(*place).node)  # type: ignore[union-attr]
    yield lambda: kernel.open(successors[0], os.O_RDWR)
    yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o600))
    yield lambda: kernel.getattr(successors[0])
    yield lambda: kernel.release(node)
    yield lambda: kernel.release(node)
    yield lambda: kernel.release(successors[0])


def _removed_while_open(client: Client, kernel: Kernel) -> Calls:
    place, node = client.place("d/h"), client.node("d/h")
    made: list[int] = []
    yield lambda: kernel.open(node, os.O_RDWR | os.O_TRUNC)
    yield lambda: kernel.unlink(*place)
    yield lambda: made.append(kernel.create(*place, os.O_RDWR, 0o600, ROOT)[0].node)
    yield lambda: kernel.open(made[0], os.O_RDONLY)
    yield lambda: kernel.release(made[0])
    yield lambda: kernel.release(node)
    yield lambda: kernel.release(made[0])


def _removed_after_it_left_its_node_behind(client: Client, kernel: Kernel) -> Calls:
    """Nobody has looked up what its name leads to since."""
    place, node = client.place("d/f"), client.node("d/f")
    yield lambda: kernel.open(node, os.O_RDONLY)
    yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o600))
    yield lambda: kernel.unlink(*place)
    yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o640))
    yield lambda: kernel.release(node)


def _replaced_after_it_left_its_node_behind(client: Client, kernel: Kernel) -> Calls:
    parent, node = client.node("d"), client.node("d/f")
    yield lambda: kernel.open(node, os.O_RDONLY)
    yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o600))
    yield lambda: kernel.rename(parent, b"h", parent, b"f", 0)
    yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o640))
    yield lambda: kernel.release(node)


MORE: dict[str, Operation] = {
    "lookup": Operation(each(_lookups)),
    "forget": Operation(each(_forgets)),
    "use of a removed lower file": Operation(each(_use_removed("d/f"))),
    "use of a removed upper file": Operation(each(_use_removed("d/new")), lambda client: client.write("d/new", b"new")),
    "use of a removed copied-up file": Operation(each(_use_removed("d/f")), lambda client: client.chmod("d/f", 0o600)),
    "attribute of a removed file": Operation(each(_attribute_of_removed)),
    "use of a removed lower directory": Operation(each(_use_removed_directory("e/empty"))),
    "use of a removed upper directory": Operation(each(_use_removed_directory("d/new")), lambda client: client.mkdir("d/new")),
    "use of a removed merged directory": Operation(
        each(_use_removed_directory("d/sub")), lambda client: client.unlink("d/sub/g")
    ),
    "life of an unnamed file": Operation(each(_life_of_unnamed)),
    "extended attributes": Operation(each(_xattrs)),
    "writes from the page cache": Operation(each(_cached_writes)),
    "renames": Operation(each(_renames)),
    "refused": Operation(each(_refused)),
    "readdir while names come and go": Operation(each(_listing("d", plus=False))),
    "readdirplus while names come and go": Operation(each(_listing("d", plus=True))),
    "readdir of an upper directory": Operation(each(_listing("d", plus=False)), lambda client: client.write("d/g", b"")),
    "long listing": Operation(each(_long_listing), _make_many),
}

MORE_LINKED: dict[str, Operation] = {
    "lookup of all names": Operation(each(_lookups_of_links), linked=True),
    "use of a removed name": Operation(each(_use_removed("d/f")), linked=True),
}

OPENED: dict[str, Operation] = {
    "copy-up of an open file": Operation(each(_lower_opened_for_writing)),
    "removal of an open file": Operation(each(_removed_while_open)),
    "removal of an open file that was copied up": Operation(each(_removed_after_it_left_its_node_behind)),
    "replacement of an open file that was copied up": Operation(each(_replaced_after_it_left_its_node_behind)),
}

_PLAIN = Options(fsync="volatile")
PASSTHROUGH = "passthrough"

EVERYTHING: dict[str, tuple[Options, dict[str, Operation]]] = {
    name: (options, dict(operations)) for name, (options, operations) in CONFIGURATIONS.items()
}
EVERYTHING["plain"][1].update(MORE | {"renames of directories": Operation(each(_directory_renames))})
EVERYTHING["metacopy"][1].update(MORE)
EVERYTHING["whiteouts as attributes"][1].update(MORE)
EVERYTHING["whiteouts beside"][1].update(MORE)
EVERYTHING["index"][1].update(MORE | MORE_LINKED)
EVERYTHING["index and metacopy"][1].update(MORE_LINKED)
EVERYTHING["hard links without an index"] = _PLAIN, LINKED | MORE_LINKED
EVERYTHING[PASSTHROUGH] = _PLAIN, OPENED
