"""A name that stays because removing it failed leads to what it led to before."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn

import pytest

from tests.overlay.client import Client
from tests.overlay.conftest import Open


def _full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "the upper is full")


def _prepare(open_union: Open) -> Client:
    client = open_union({"d/f": b"", "f": b"lower", "old": b"old", "e/x": b""})
    client.unlink("d/f")
    client.write("f", b"upper")
    client.unlink("e/x")
    client.mkdir("empty")
    return client


@pytest.mark.parametrize(
    "fail",
    [
        lambda client: client.rmdir("d"),
        lambda client: client.rename("empty", "d"),
        lambda client: client.unlink("f"),
        lambda client: client.rename("old", "f"),
    ],
    ids=["rmdir", "rename over a directory", "unlink", "rename over a file"],
)
def test_what_could_not_be_removed_is_as_it_was(
    open_union: Open, monkeypatch: pytest.MonkeyPatch, fail: Callable[[Client], None]
) -> None:
    client = _prepare(open_union)
    nodes, nlinks = [client.node(name) for name in ("d", "f")], [client.attr(name).nlink for name in ("d", "f")]
    with monkeypatch.context() as patched:
        for name in ("hide", "hide_directory"):
            patched.setattr(client.union._tree.whiteouts, name, _full)
        patched.setattr("unionfs.overlay.rename.renameat2", _full)
        patched.setattr("unionfs.overlay.rename.os.rename", _full)
        with pytest.raises(OSError, match="the upper is full"):
            fail(client)
    assert [client.node(name) for name in ("d", "f")] == nodes
    assert [client.attr(name).nlink for name in ("d", "f")] == nlinks
    client.write("d/g", b"made")
    assert client.names("d") == [b"g"]
    client.rename("f", "d/f")
    assert client.read("d/f") == b"upper"
