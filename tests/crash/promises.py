"""What is on the disk because somebody asked for that by fsync(2): changes of a union, each with the fsync calls that a careful
program makes after it.  When the power fails right then, all of it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.crash.unions import UnionChange
from tests.faults.operations import Operation
from tests.overlay.client import ROOT, Client
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options

Step = Callable[[Client], object]

_AUTO, _STRICT = Options(), Options(fsync="strict")
_METACOPY = Options(metacopy=True)
_INDEX = Options(index="on")


def _kept(step: Step, *synced: str) -> Operation:
    """``step``, then fsync(2) of the ``synced`` paths."""

    def change(client: Client) -> None:
        step(client)
        for path in synced:
            client.call(client.union.fsync, client.node(path), False)

    return Operation(lambda client: lambda: change(client))


def _in_new_directories(client: Client) -> None:
    client.mkdir("a")
    client.mkdir("a/b")
    client.write("a/b/c", b"c" * 10_000)


def _replace(client: Client) -> None:
    """As editors save."""
    client.write("d/f.new", b"a new file")
    client.call(client.union.fsync, client.node("d/f.new"), False)
    client.rename("d/f.new", "d/f")


def _link(old: str, new: str) -> Step:
    return lambda client: client.call(client.union.link, client.node(old), *client.place(new))


def _remove_tree(client: Client) -> None:
    client.unlink("d/sub/g")
    client.rmdir("d/sub")


def _make_again(client: Client) -> None:
    _remove_tree(client)
    client.mkdir("d/sub")
    client.write("d/sub/new", b"new")


_UNNAMED = 0o100644


def _name_unnamed(client: Client) -> None:
    entry, _ = client.call(client.union.tmpfile, client.node("e"), _UNNAMED, ROOT)
    client.call(client.union.write, entry.node, 0, b"unnamed")
    client.call(client.union.link, entry.node, *client.place("e/named"))


def _set_xattr(client: Client) -> None:
    client.call(client.union.setxattr, client.node("d/f"), b"user.new", b"value", 0)


_OF_DATA = {
    "write": _kept(lambda client: client.write("d/f", b"THE"), "d/f"),
    "write to a large file": _kept(lambda client: client.write("large", b"THE", 70_000), "large"),
    "truncate": _kept(lambda client: client.truncate("d/f", 3), "d/f"),
    "create": _kept(lambda client: client.write("d/new", b"n" * 10_000), "d/new", "d"),
    "create below a lower directory": _kept(lambda client: client.write("e/empty/new", b"n"), "e/empty/new", "e/empty"),
    "create in new directories": _kept(_in_new_directories, "a/b/c", "a/b", "a", ""),
    "replace": _kept(_replace, "d"),
    "name for an unnamed file": _kept(_name_unnamed, "e/named", "e"),
}
_OF_NAMES = {
    "chmod": _kept(lambda client: client.chmod("d/f", 0o600), "d/f"),
    "chmod of a large file": _kept(lambda client: client.chmod("large", 0o600), "large"),
    "chmod of a directory": _kept(lambda client: client.chmod("d/sub", 0o700), "d/sub"),
    "setxattr": _kept(_set_xattr, "d/f"),
    "unlink": _kept(lambda client: client.unlink("d/f"), "d"),
    "unlink below": _kept(lambda client: client.unlink("d/sub/g"), "d/sub"),
    "rmdir": _kept(lambda client: client.rmdir("e/empty"), "e"),
    "removal of a tree": _kept(_remove_tree, "d"),
    "directory over a whiteout": _kept(_make_again, "d/sub/new", "d/sub", "d"),
    "symlink": _kept(lambda client: client.call(client.union.symlink, *client.place("d/new"), b"target", ROOT), "d"),
    "link": _kept(_link("d/f", "e/new"), "e/new", "e"),
    "rename": _kept(lambda client: client.rename("d/f", "e/moved"), "e", "d"),
    "rename over": _kept(lambda client: client.rename("d/f", "e/only"), "e", "d"),
    "rename of a directory": _kept(lambda client: client.rename("d/sub", "e/moved"), "e", "d"),
    "exchange": _kept(lambda client: client.rename("d/f", "e/only", RENAME_EXCHANGE), "e", "d"),
}


_OF_LINKS = {
    "write": _kept(lambda client: client.write("f", b"THE"), "f"),
    "chmod": _kept(lambda client: client.chmod("d/f", 0o600), "d/f"),
    "unlink": _kept(lambda client: client.unlink("f"), ""),
    "rename": _kept(lambda client: client.rename("f", "g"), ""),
    "link": _kept(_link("f", "d/new"), "d/new", "d"),
}


def promises() -> Iterator[tuple[str, str, UnionChange]]:
    """All of them: the options in words, the change in words, and the change."""
    for words, options in (("auto", _AUTO), ("strict", _STRICT), ("metacopy", _METACOPY)):
        for name, operation in (_OF_DATA | _OF_NAMES).items():
            yield words, name, UnionChange(options, operation)
    for name, operation in _OF_LINKS.items():
        yield "index", name, UnionChange(_INDEX, operation._replace(linked=True))
