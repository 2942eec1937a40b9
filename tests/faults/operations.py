"""Every operation that changes a union, in all its forms: what was done before, and the one call in question.

Names are looked up before the call, as the kernel does: an operation is that one call of the contract and nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.tree import OLD
from tests.overlay.client import ROOT, Client
from unionfs.filesystem import SET_ATIME, SET_GID, SET_MODE, SET_MTIME, SET_SIZE, SET_UID, Caller, Changes
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE
from unionfs.overlay import Options

_USER = Caller(12, 34, 1, 0o022)

Call = Callable[[], object]
Bind = Callable[[Client], Call]


class Operation(NamedTuple):
    """``prepare`` is done in an earlier life of the union, ``begin`` in the same one, right before the operation is bound to the
    union; what ``bind`` returns is the operation.  ``linked``: on layers where ``d/f`` has three names."""

    bind: Bind
    prepare: Callable[[Client], object] = lambda _: None
    begin: Callable[[Client], object] = lambda _: None
    linked: bool = False


def _looked_up(client: Client, path: str) -> tuple[int, bytes]:
    """The place of a name that the kernel has asked for, whether anything is there or not."""
    parent, name = client.place(path)
    client.call(client.union.lookup, parent, name)
    return parent, name


def _make(path: str, mode: int, rdev: int = 0, caller: Caller = ROOT) -> Bind:
    def bind(client: Client) -> Call:
        place = _looked_up(client, path)
        return lambda: client.call(client.union.mknod, *place, mode, rdev, caller)

    return bind


def _create(path: str) -> Bind:
    def bind(client: Client) -> Call:
        place = _looked_up(client, path)
        return lambda: client.call(client.union.create, *place, os.O_WRONLY | os.O_EXCL, 0o644, ROOT)

    return bind


def _mkdir(path: str) -> Bind:
    def bind(client: Client) -> Call:
        place = _looked_up(client, path)
        return lambda: client.call(client.union.mkdir, *place, 0o755, ROOT)

    return bind


def _symlink(path: str) -> Bind:
    def bind(client: Client) -> Call:
        place = _looked_up(client, path)
        return lambda: client.call(client.union.symlink, *place, b"target", ROOT)

    return bind


def _link(source: str, path: str) -> Bind:
    def bind(client: Client) -> Call:
        node, place = client.node(source), _looked_up(client, path)
        return lambda: client.call(client.union.link, node, *place)

    return bind


def _unlink(path: str) -> Bind:
    def bind(client: Client) -> Call:
        place = _looked_up(client, path)
        return lambda: client.call(client.union.unlink, *place)

    return bind


def _rmdir(path: str) -> Bind:
    def bind(client: Client) -> Call:
        place = _looked_up(client, path)
        return lambda: client.call(client.union.rmdir, *place)

    return bind


def _rename(old: str, new: str, flags: int = 0) -> Bind:
    def bind(client: Client) -> Call:
        places = *_looked_up(client, old), *_looked_up(client, new)
        return lambda: client.call(client.union.rename, *places, flags)

    return bind


def setattr_of(path: str, changes: Changes) -> Bind:
    """A change of attributes."""

    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.setattr, node, changes, ROOT)

    return bind


def _open(path: str, flags: int) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.open, node, flags, ROOT)

    return bind


def write_to(path: str, data: bytes) -> Bind:
    """A write at the start of a file."""

    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.write, node, 0, data)

    return bind


def _write_removed(path: str) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        client.unlink(path)
        return lambda: client.call(client.union.write, node, 0, b"THE")

    return bind


def _chmod_removed(path: str) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        client.unlink(path)
        return lambda: client.call(client.union.setattr, node, _MODE, ROOT)

    return bind


def _allocate(path: str) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.fallocate, node, 0, 8192, 0)

    return bind


def _setxattr(path: str) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.setxattr, node, b"trusted.new", b"value", 0)

    return bind


def _removexattr(path: str) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.removexattr, node, b"user.kept")

    return bind


def _copy_range(source: str, target: str) -> Bind:
    def bind(client: Client) -> Call:
        nodes = client.node(source), client.node(target)
        return lambda: client.call(client.union.copy_file_range, nodes[0], 0, nodes[1], 0, 3)

    return bind


def _tmpfile(path: str) -> Bind:
    def bind(client: Client) -> Call:
        parent = client.node(path)
        return lambda: client.call(client.union.tmpfile, parent, stat.S_IFREG | 0o600, ROOT)

    return bind


def _link_tmpfile(path: str) -> Bind:
    def bind(client: Client) -> Call:
        entry, _ = client.call(client.union.tmpfile, client.node("d"), stat.S_IFREG | 0o600, ROOT)
        client.call(client.union.write, entry.node, 0, b"unnamed")
        place = _looked_up(client, path)
        return lambda: client.call(client.union.link, entry.node, *place)

    return bind


def _fsync(path: str) -> Bind:
    def bind(client: Client) -> Call:
        node = client.node(path)
        return lambda: client.call(client.union.fsync, node, False)

    return bind


def _all(*steps: Callable[[Client], object]) -> Callable[[Client], object]:
    def prepare(client: Client) -> None:
        for step in steps:
            step(client)

    return prepare


def _unlinked(*paths: str) -> Callable[[Client], object]:
    def unlink(client: Client) -> None:
        for path in paths:
            client.unlink(path)

    return unlink


def _emptied(path: str) -> Callable[[Client], object]:
    return lambda client: client.unlink(f"{path}/g")


def _made(path: str) -> Callable[[Client], object]:
    return _all(lambda client: client.mkdir(path), lambda client: client.write(f"{path}/x", b"x"))


def _copied_up(path: str) -> Callable[[Client], object]:
    return lambda client: client.chmod(path, 0o600)


_GONE = _all(_emptied("d/sub"), lambda client: client.rmdir("d/sub"))
_MODE = Changes(SET_MODE, mode=0o600)
_OWNER = Changes(SET_UID | SET_GID, uid=12, gid=34)
_TIMES = Changes(SET_ATIME | SET_MTIME, atime_ns=2 * OLD, mtime_ns=2 * OLD)
_ALL = _MODE.valid | _OWNER.valid | _TIMES.valid

OPERATIONS: dict[str, Operation] = {
    "create": Operation(_create("d/new")),
    "create over a whiteout": Operation(_create("d/f"), _unlinked("d/f")),
    "mkdir": Operation(_mkdir("d/new")),
    "mkdir over a whiteout": Operation(_mkdir("d/sub"), _GONE),
    "mknod of a fifo": Operation(_make("d/new", stat.S_IFIFO | 0o644)),
    "mknod of a device": Operation(_make("new", stat.S_IFCHR | 0o644, os.makedev(1, 3))),
    "create by a user": Operation(_make("d/new", stat.S_IFREG | 0o644, caller=_USER)),
    "create by a user over a whiteout": Operation(_make("d/f", stat.S_IFREG | 0o4755, caller=_USER), _unlinked("d/f")),
    "mknod over a whiteout": Operation(_make("d/f", stat.S_IFREG | 0o644), _unlinked("d/f")),
    "symlink": Operation(_symlink("d/new")),
    "symlink over a whiteout": Operation(_symlink("d/f"), _unlinked("d/f")),
    "link of a lower file": Operation(_link("d/f", "e/new")),
    "link of an upper file": Operation(_link("new", "d/new"), lambda client: client.write("new", b"new")),
    "link over a whiteout": Operation(_link("d/f", "d/h"), _unlinked("d/h")),
    "link of a symbolic link": Operation(_link("link", "d/new")),
    "unlink of a lower file": Operation(_unlink("d/f")),
    "unlink of a copied-up file": Operation(_unlink("d/f"), _copied_up("d/f")),
    "unlink of an upper file": Operation(_unlink("d/new"), lambda client: client.write("d/new", b"new")),
    "rmdir of a lower directory": Operation(_rmdir("e/empty")),
    "rmdir of a merged directory": Operation(_rmdir("d/sub"), _emptied("d/sub")),
    "rmdir of an upper directory": Operation(_rmdir("d/new"), lambda client: client.mkdir("d/new")),
    "rename of a lower file": Operation(_rename("d/f", "e/moved")),
    "rename over a lower file": Operation(_rename("d/f", "d/h")),
    "rename of an upper file": Operation(_rename("new", "d/new"), lambda client: client.write("new", b"new")),
    "rename of an upper file over a lower one": Operation(_rename("new", "d/f"), lambda client: client.write("new", b"new")),
    "rename over a whiteout": Operation(_rename("d/f", "d/h"), _unlinked("d/h")),
    "rename of a fifo": Operation(_rename("fifo", "d/fifo")),
    "rename of a lower directory": Operation(_rename("d/sub", "e/moved")),
    "rename of a lower directory, same parent": Operation(_rename("d/sub", "d/moved")),
    "rename of an upper directory": Operation(_rename("made", "d/made"), _made("made")),
    "rename over an emptied directory": Operation(_rename("made", "d/sub"), _all(_emptied("d/sub"), _made("made"))),
    "rename of a lower directory over one": Operation(_rename("d/sub", "e/empty")),
    "rename over a whiteout of a directory": Operation(_rename("made", "d/sub"), _all(_GONE, _made("made"))),
    "rename without replacing": Operation(_rename("d/f", "d/new", RENAME_NOREPLACE)),
    "exchange of lower files": Operation(_rename("d/f", "e/only", RENAME_EXCHANGE)),
    "exchange of a directory and a file": Operation(_rename("made", "d/f", RENAME_EXCHANGE), _made("made")),
    "exchange of lower directories": Operation(_rename("d/sub", "e/empty", RENAME_EXCHANGE)),
    "truncate": Operation(setattr_of("d/f", Changes(SET_SIZE, size=3))),
    "truncate to nothing": Operation(setattr_of("d/f", Changes(SET_SIZE, size=0))),
    "open with O_TRUNC": Operation(_open("d/f", os.O_WRONLY | os.O_TRUNC)),
    "write to a lower file": Operation(write_to("d/f", b"THE")),
    "write to an upper file": Operation(write_to("new", b"NEWER"), lambda client: client.write("new", b"new")),
    "write to a removed file": Operation(_write_removed("d/f")),
    "chmod of a removed file": Operation(_chmod_removed("d/f")),
    "fallocate": Operation(_allocate("d/f")),
    "copy_file_range": Operation(_copy_range("d/h", "d/f")),
    "chmod": Operation(setattr_of("d/f", _MODE)),
    "chmod of a directory": Operation(setattr_of("d/sub", _MODE)),
    "chown": Operation(setattr_of("d/f", _OWNER)),
    "chown of a symbolic link": Operation(setattr_of("link", _OWNER)),
    "chown of a fifo": Operation(setattr_of("fifo", _OWNER)),
    "utimens": Operation(setattr_of("d/f", _TIMES)),
    "all attributes": Operation(
        setattr_of("d/f", _OWNER._replace(valid=_ALL, mode=0o640, mtime_ns=OLD, atime_ns=OLD))
    ),
    "setxattr": Operation(_setxattr("d/f")),
    "setxattr of a directory": Operation(_setxattr("d/sub")),
    "removexattr": Operation(_removexattr("d/f")),
    "tmpfile": Operation(_tmpfile("e")),
    "link of an unnamed file": Operation(_link_tmpfile("d/new")),
    "link of an unnamed file over a whiteout": Operation(_link_tmpfile("d/h"), _unlinked("d/h")),
    "fsync": Operation(_fsync("d/f"), begin=lambda client: client.write("d/f", b"THE")),
    "fsync of a directory": Operation(_fsync("d"), begin=lambda client: client.mkdir("d/new")),
}  # fmt: skip

LINKED: dict[str, Operation] = {
    "chmod": Operation(setattr_of("d/f", _MODE), linked=True),
    "write": Operation(write_to("f", b"THE"), linked=True),
    "write after chmod of another name": Operation(write_to("f", b"THE"), _copied_up("d/f"), linked=True),
    "truncate": Operation(setattr_of("f", Changes(SET_SIZE, size=0)), linked=True),
    "unlink of a lower file": Operation(_unlink("d/f"), linked=True),
    "unlink of a name that was not copied up": Operation(_unlink("f"), _copied_up("d/f"), linked=True),
    "unlink of the last name": Operation(_unlink("d/sub/f"), _unlinked("d/f", "f"), linked=True),
    "rename": Operation(_rename("f", "g"), linked=True),
    "rename over another file": Operation(_rename("f", "d/h"), _copied_up("d/f"), linked=True),
    "rename over a name": Operation(_rename("d/h", "f"), linked=True),
    "exchange": Operation(_rename("d/h", "f", RENAME_EXCHANGE), linked=True),
    "link": Operation(_link("f", "d/new"), linked=True),
    "link over a whiteout": Operation(_link("d/sub/f", "d/h"), _unlinked("d/h"), linked=True),
}

_QUICK = Options(fsync="volatile")
_WITH_DATA = ("write to a lower file", "truncate", "copy_file_range", "rename of a lower file", "fsync", "fsync of a directory")
_OF_METADATA = (
    *("chmod", "chown", "utimens", "setxattr", "removexattr", "truncate", "truncate to nothing", "write to a lower file"),
    *("rename of a lower file", "link of a lower file", "link over a whiteout", "exchange of lower files", "copy_file_range"),
)
_OF_NAMES = {
    name: operation
    for name, operation in OPERATIONS.items()
    # The other forms of whiteouts let no directory with lower parts move.
    if name.startswith(("create", "mkdir", "link", "unlink", "rmdir", "rename"))
    and not name.startswith("rename of a lower directory")
}

CONFIGURATIONS: dict[str, tuple[Options, dict[str, Operation]]] = {
    "plain": (_QUICK, {name: found for name, found in OPERATIONS.items() if not name.startswith("fsync")}),
    "durable": (Options(), {name: OPERATIONS[name] for name in _WITH_DATA}),
    "strict": (Options(fsync="strict"), {name: OPERATIONS[name] for name in (*_WITH_DATA, "chmod of a directory")}),
    "metacopy": (Options(fsync="volatile", metacopy=True), {name: OPERATIONS[name] for name in _OF_METADATA}),
    "index": (Options(fsync="volatile", index="on"), LINKED),
    "index and metacopy": (Options(fsync="volatile", index="on", metacopy=True), LINKED),
    "whiteouts as attributes": (Options(fsync="volatile", whiteout="xattr"), _OF_NAMES),
    "whiteouts beside": (Options(fsync="volatile", whiteout="wh"), _OF_NAMES),
}  # fmt: skip
"""Options, and the operations for which they make a difference."""
