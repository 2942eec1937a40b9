"""Lower layers that somebody else answers for: the thread that serves the union asks them nothing."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, build
from unionfs.filesystem import ROOT_ID, SET_MODE, SET_UID, Attr, Blocking, Changes
from unionfs.linux.inode_flags import FS_NODUMP_FL
from unionfs.overlay import Stack, Union
from unionfs.overlay import layer as layers
from unionfs.overlay import union as union_module
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.layer import RealDir
from unionfs.overlay.options import Options
from unionfs.overlay.remote_layer import RemoteLayer

TOP: dict[str, bytes | None] = {"d/top": b"top", "d/both/f": b"f", "opaque/f": b"shown", "f": b"file", "large": b"L" * 300_000}
BOTTOM: dict[str, bytes | None] = {"d/bottom": b"b", "d/both/g": b"g", "opaque/hidden": b"", "deep/er/h": b"h", "empty": None}

REMOTE = pytest.mark.usefixtures("remote")


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Two lowers with all that layers hold, a data-only layer, an upper."""
    top, bottom = build(tmp_path / "top", TOP), build(tmp_path / "bottom", BOTTOM)
    os.symlink("target", top / "d/link")
    os.mkfifo(top / "d/fifo")
    os.link(top / "f", top / "f2")
    os.mknod(top / "d/bottom", 0o020000, os.makedev(0, 0))
    os.setxattr(top / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(top / "d/top", "user.name", b"value")
    (top / "moved").mkdir()
    os.setxattr(top / "moved", "trusted.overlay.redirect", b"/deep")
    (top / "meta").write_bytes(b"")
    os.truncate(top / "meta", 4)
    os.setxattr(top / "meta", "trusted.overlay.metacopy", b"")
    os.setxattr(top / "meta", "trusted.overlay.redirect", b"/data/of/meta")
    data = build(tmp_path / "data", {"data/of/meta": b"data"})
    return Stack((top, bottom), build(tmp_path / "upper", {}), build(tmp_path / "work", {}), (data,))


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """All lower layers are remote, and opened in works only."""
    is_working = False

    def ask_elsewhere(opened: list[layers.Layer], _upper: object) -> None:
        for layer in opened:
            layer.is_remote = True
        layers.ask_elsewhere(opened, None)

    def opens(real: RealDir, pool: FdPool, plain: Callable[[RealDir, FdPool], int] = RealDir.open) -> int:
        assert real.layer.remote is None, "a directory of a remote layer is opened by whoever serves"
        return plain(real, pool)

    def enters(remote: RemoteLayer, place: tuple[bytes, ...], plain: Callable[..., object] = RemoteLayer._directory) -> object:
        assert is_working, "a remote layer is asked by whoever serves"
        return plain(remote, place)

    def call(client: Client, method: Callable[..., object], *args: object) -> object:
        nonlocal is_working
        while True:
            try:
                return method(*args)
            except Blocking as blocking:
                client.blocked += 1
                is_working = True
                try:
                    result = blocking.work()
                finally:
                    is_working = False
                if not blocking.restart:
                    return result

    monkeypatch.setattr(union_module, "ask_elsewhere", ask_elsewhere)
    monkeypatch.setattr(RealDir, "open", opens)
    monkeypatch.setattr(RemoteLayer, "_directory", enters)
    monkeypatch.setattr(Client, "call", call)


@contextlib.contextmanager
def opened(stack: Stack, options: Options = Options()) -> Iterator[Client]:  # noqa: B008  frozen
    union = Union(stack, options)
    try:
        yield Client(union)
    finally:
        union.close()


def tree(client: Client) -> dict[str, tuple[Attr, object]]:
    """All that the union shows."""
    found: dict[str, tuple[Attr, object]] = {}
    waiting = [""]
    while waiting:
        path = waiting.pop()
        attr = client.attr(path)
        kind, contents = attr.mode >> 12, None
        if kind == 4:
            names = client.names(path)
            contents = sorted(names)
            waiting += [f"{path}/{os.fsdecode(name)}".lstrip("/") for name in names]
        elif kind == 8:
            contents = [client.read(path)]
        elif kind == 10:
            contents = [client.call(client.union.readlink, client.node(path))]
        found[path] = attr._replace(atime=0, atimensec=0), contents
    return found


def test_same_is_shown_as_of_local_layers(stack: Stack, request: pytest.FixtureRequest) -> None:
    with opened(stack) as client:
        local = tree(client)
    request.getfixturevalue("remote")
    with opened(stack) as client:
        assert tree(client) == local
        assert client.blocked > len(local)


@REMOTE
def test_all_is_changed_as_over_local_layers(stack: Stack) -> None:
    with opened(stack, Options(index="on")) as client:
        union, call = client.union, client.call
        client.write("d/top", b"T")
        client.write("large", b"l")
        call(union.setattr, client.node("f"), Changes(SET_MODE, mode=0o600), ROOT)
        call(union.setattr, client.node("d/link"), Changes(SET_UID, uid=5), ROOT)
        call(union.setattr, client.node("d/fifo"), Changes(SET_UID, uid=5), ROOT)
        client.write("deep/er/new", b"new")
        call(union.mkdir, client.node("empty"), b"made", 0o755, ROOT)
        client.rename("d/both", "opaque/both")
        client.rename("moved", "empty/moved")
        client.unlink("opaque/f")
        call(union.link, client.node("f"), ROOT_ID, b"f3")
        client.write("meta", b"D")
        call(union.setxattr, client.node("d/link"), b"trusted.name", b"value", 0)
    with opened(stack, Options(index="on")) as client:
        assert {path: contents for path, (_, contents) in tree(client).items() if contents} == {
            "": sorted([b"d", b"opaque", b"f", b"f2", b"f3", b"large", b"meta", b"deep", b"empty"]),
            "d": [b"fifo", b"link", b"top"],
            "d/link": [b"target"],
            "d/top": [b"Top"],
            "deep": [b"er"],
            "deep/er": [b"h", b"new"],
            "deep/er/h": [b"h"],
            "deep/er/new": [b"new"],
            "empty": [b"made", b"moved"],
            "empty/moved": [b"er"],
            "empty/moved/er": [b"h"],
            "empty/moved/er/h": [b"h"],
            "f": [b"file"],
            "f2": [b"file"],
            "f3": [b"file"],
            "large": [b"l" + b"L" * 299_999],
            "meta": [b"Data"],
            "opaque": [b"both"],
            "opaque/both": [b"f", b"g"],
            "opaque/both/f": [b"f"],
            "opaque/both/g": [b"g"],
        }
        assert {client.attr(name).mode & 0o777 for name in ("f", "f2", "f3")} == {0o600}


@REMOTE
def test_what_is_rarely_asked_is_asked_elsewhere_too(stack: Stack) -> None:
    with opened(stack, Options(metacopy=True)) as client:
        union, call = client.union, client.call
        top, large = client.node("d/top"), client.node("large")
        assert call(union.getxattr, top, b"user.name") == b"value"
        assert call(union.listxattr, top, ROOT) == [b"user.name"]
        with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
            call(union.removexattr, top, b"user.missing")
        assert call(union.lseek, large, 0, os.SEEK_HOLE) == 300_000
        assert not call(union.get_flags, top) & FS_NODUMP_FL
        assert not call(union.get_extended_flags, client.node("d")).xflags & FS_NODUMP_FL
        made = call(union.birth_time, top)
        assert made is None or made > 0
        assert call(union.explain, b"d/top")["layer"] == "lower[0]"
        fd = call(union.backing_fd, large)
        assert os.pread(fd, 3, 0) == b"LLL"
        assert call(union.backing_fd, large) == fd
        call(union.setattr, large, Changes(SET_MODE, mode=0o600), ROOT)
        assert client.read("large") == b"L" * 300_000
        entry, _ = call(union.create, ROOT_ID, b"copy", os.O_RDWR, 0o644, ROOT)
        with pytest.raises(OSError, match="read and write"):
            call(union.copy_file_range, client.node("f"), 0, entry.node, 0, 4)
        with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
            call(union.explain, b"missing/name")
    with opened(Stack(stack.lowers)) as client:
        assert client.call(client.union.statfs).namelen == 255


@REMOTE
def test_one_question_is_asked_once_for_all_who_wait(stack: Stack) -> None:
    with opened(stack) as client:
        client.names("")
        works = []
        for _ in range(2):
            with pytest.raises(Blocking) as blocking:
                client.union.lookup(ROOT_ID, b"large")
            works.append(blocking.value.work)
        assert works[0] is works[1]


@REMOTE
def test_error_of_the_moment_is_told_once_and_asked_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_dir_fd: int, _name: bytes) -> os.stat_result:
        raise OSError(errno.EIO, "the server is gone")

    with opened(stack) as client:
        client.names("")
        with pytest.raises(Blocking) as blocking:
            client.union.lookup(ROOT_ID, b"large")
        monkeypatch.setattr(blocking.value.work, "_function", fails)
        with pytest.raises(OSError, match="the server is gone"):
            client.call(client.union.lookup, ROOT_ID, b"large")
        assert client.attr("large").size == 300_000


@REMOTE
def test_no_file_of_a_remote_layer_stays_open_after_the_end(stack: Stack) -> None:
    with opened(stack) as client:
        for name in ("f", "large", "d/top"):
            client.read(name)
        client.call(client.union.backing_fd, client.node("f"))
        closing = client.union._tree.lowers[0].remote
        assert closing is not None
        files = closing._files
        assert len(files._idle) == 2
    assert not files._idle


@REMOTE
def test_listing_asks_for_many_objects_at_a_time(tmp_path: Path) -> None:
    lower = build(tmp_path / "lower", {f"f{number}": b"x" * number for number in range(100)})
    with opened(Stack((lower,))) as client:
        rows = client.call(lambda: list(client.union.readdirplus(ROOT_ID, 2)))
        assert {row.name: row.entry.attr.size for row in rows if row.entry is not None} == {b"f%d" % n: n for n in range(100)}
        assert client.blocked == 2
