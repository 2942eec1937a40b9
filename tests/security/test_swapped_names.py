"""Somebody who may write to a layer puts symbolic links in place of what the union has looked up: nothing outside is touched.

Each operation is tried on an object that was replaced after the union had learnt of it, with no descriptor of it left open
(``pool_limit``), which is the moment that a real attacker waits for; `test_racing_clients` lets one race for it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import Tree, build
from tests.mounts import DIRECT, PYFUSE3, Backend
from tests.overlay.client import ROOT, Client
from tests.security.outside import SECRET, Outside
from unionfs.filesystem import SET_GID, SET_MODE, SET_MTIME, SET_SIZE, SET_UID, Changes, ExtendedFlags
from unionfs.linux.chmod import _by_descriptor, change_mode
from unionfs.overlay import Options, Stack, Union
from unionfs.overlay.options import OwnerOptions

Operation = Callable[[Client, int, int], object]


def _setattr(valid: int, **fields: int) -> Callable[[Client, int], object]:
    return lambda client, node: client.call(client.union.setattr, node, Changes(valid, **fields), ROOT)


def _on_both(operation: Callable[[Client, int], object]) -> list[Operation]:
    """The operation on the file and on the directory."""
    return [lambda client, file, _: operation(client, file), lambda client, _, directory: operation(client, directory)]


ON_ANY: dict[str, Callable[[Client, int], object]] = {
    "chmod": _setattr(SET_MODE, mode=0o4777),
    "chown": _setattr(SET_UID | SET_GID, uid=4711, gid=4711),
    "set times": _setattr(SET_MTIME, mtime_ns=10**18),
    "getattr": lambda client, node: client.call(client.union.getattr, node),
    "setxattr": lambda client, node: client.call(client.union.setxattr, node, b"user.mine", b"forged", 0),
    "setxattr trusted": lambda client, node: client.call(client.union.setxattr, node, b"trusted.mine", b"forged", 0),
    "removexattr": lambda client, node: client.call(client.union.removexattr, node, b"user.mine"),
    "getxattr": lambda client, node: client.call(client.union.getxattr, node, b"user.mine"),
    "get flags": lambda client, node: client.call(client.union.get_flags, node),
    "set flags": lambda client, node: client.call(client.union.set_flags, node, 0x80),  # FS_NOATIME_FL
    "set project": lambda client, node: client.call(
        client.union.set_extended_flags,
        node,
        ExtendedFlags(0x40, 0, 0, 0, 0),  # FS_XFLAG_NOATIME
    ),
}

ON_FILE: dict[str, Callable[[Client, int], object]] = {
    "truncate": _setattr(SET_SIZE, size=3),
    "open and write": lambda client, node: (
        client.call(client.union.open, node, os.O_WRONLY, ROOT),
        client.call(client.union.write, node, 0, b"forged"),
    ),
    "read": lambda client, node: client.call(client.union.read, node, 0, 1 << 16),
    "fallocate": lambda client, node: client.call(client.union.fallocate, node, 0, 1 << 16, 0),
}

ON_NAMES: dict[str, Operation] = {
    "look up below": lambda client, _, d: client.call(client.union.lookup, d, b"g"),
    "list": lambda client, _, d: list(client.call(client.union.readdirplus, d, 0)),
    "make a file below": lambda client, _, d: client.call(client.union.create, d, b"new", os.O_WRONLY, 0o644, ROOT),
    "make a directory below": lambda client, _, d: client.call(client.union.mkdir, d, b"new", 0o755, ROOT),
    "make a fifo below": lambda client, _, d: client.call(client.union.mknod, d, b"new", stat.S_IFIFO | 0o644, 0, ROOT),
    "make a link below": lambda client, f, d: client.call(client.union.link, f, d, b"new"),
    "make a symbolic link below": lambda client, _, d: client.call(client.union.symlink, d, b"new", b"x", ROOT),
    "make a nameless file below": lambda client, _, d: client.call(client.union.tmpfile, d, 0o644, ROOT),
    "unlink below": lambda client, _, d: client.call(client.union.unlink, d, b"f"),
    "rename from below": lambda client, _, d: client.call(client.union.rename, d, b"f", 1, b"moved", 0),
    "rename to below": lambda client, _f, d: client.call(client.union.rename, 1, b"f", d, b"f", 0),
    "rename the directory": lambda client, _f, _d: client.call(client.union.rename, 1, b"d", 1, b"moved", 0),
    "remove the directory": lambda client, _f, _d: client.call(client.union.rmdir, 1, b"d"),
    "make the directory again": lambda client, _f, _d: (
        client.call(client.union.rmdir, 1, b"d"),
        client.call(client.union.mkdir, 1, b"d", 0o755, ROOT),
    ),
    "rename the file": lambda client, _f, _d: client.call(client.union.rename, 1, b"f", 1, b"moved", 0),
    "link the file": lambda client, f, _d: client.call(client.union.link, f, 1, b"another"),
}

OPERATIONS: dict[str, Operation] = {
    **{f"{name} a {kind}": each for name, on in ON_ANY.items() for kind, each in zip(("file", "dir"), _on_both(on), strict=True)},
    **{f"{name} a file": (lambda client, file, _, on=on: on(client, file)) for name, on in ON_FILE.items()},  # type: ignore[misc]
    **ON_NAMES,
}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    made = Outside(tmp_path / "outside")
    yield made
    assert made.changes == []


TREE: Tree = {"f": b"mine", "d/f": b"mine", "d/g": b"mine"}
EMPTY: Tree = {}


@contextlib.contextmanager
def opened(top: Path, layer: str, options: Options) -> Iterator[Client]:
    """A union that has the files in ``layer``, and next to no descriptors."""
    for name in ("lower", "upper", "work"):
        build(top / name, TREE if name == layer else EMPTY)
    for place in ("f", "d"):
        os.setxattr(top / layer / place, "user.mine", b"0")
    stack = Stack((top / "lower",), top / "upper", top / "work")
    union = Union(stack, options, pool_limit=1)
    try:
        yield Client(union)
    finally:
        union.close()


def swap(layer: Path, outside: Path) -> None:
    """Symbolic links instead of what is there, which goes on being there under another name."""
    for name in ("f", "d"):
        (layer / name).rename(layer / f"was-{name}")
        (layer / name).symlink_to(outside / name)


def forget_descriptors(client: Client) -> None:
    """What the pool does when there is something else to open."""
    client.union._tree.pool.trim()
    client.union._tree.pool.trim()
    assert len(client.union._tree.pool) == 0


@pytest.mark.parametrize("layer", ["upper", "lower"])
@pytest.mark.parametrize("what", list(OPERATIONS))
def test_operation_on_what_was_replaced_leads_nowhere(tmp_path: Path, outside: Outside, layer: str, what: str) -> None:
    with opened(tmp_path, layer, Options(metacopy=True)) as client:
        file, directory = client.node("f"), client.node("d")
        client.names("d")
        forget_descriptors(client)
        swap(tmp_path / layer, outside.path)
        # Whether it fails, and how, is up to the union: the layer was changed underneath.  Errors are all it may come to.
        with contextlib.suppress(OSError):
            result = OPERATIONS[what](client, file, directory)
            assert SECRET not in (bytes(result) if isinstance(result, memoryview) else repr(result).encode())
            client.call(client.union.fsync, file, False)
    assert outside.changes == []


FORMS = {
    "plain": Options(),
    "whiteouts as files": Options(whiteout="wh"),
    "userxattr": Options(userxattr=True),
    "owners in attributes": Options(owners=OwnerOptions(overrides="containers")),
}


@pytest.mark.parametrize("layer", ["upper", "lower"])
@pytest.mark.parametrize("form", list(FORMS))
def test_directory_above_that_was_replaced_leads_nowhere(tmp_path: Path, outside: Outside, layer: str, form: str) -> None:
    with opened(tmp_path, layer, FORMS[form]) as client:
        below, directory = client.node("d/f"), client.node("d")
        forget_descriptors(client)
        swap(tmp_path / layer, outside.path)
        for what, operation in OPERATIONS.items():
            with contextlib.suppress(OSError):
                operation(client, below, directory)
            assert outside.changes == [], what
            forget_descriptors(client)


@pytest.mark.parametrize("layer", ["upper", "lower"])
def test_fifo_in_place_of_a_file_holds_nobody(tmp_path: Path, layer: str) -> None:
    # Who opens one waits for the other end; the daemon would, with all its clients.
    with opened(tmp_path, layer, Options()) as client:
        file, directory = client.node("f"), client.node("d")
        forget_descriptors(client)
        (tmp_path / layer / "f").unlink()
        os.mkfifo(tmp_path / layer / "f")
        for operation in OPERATIONS.values():
            with contextlib.suppress(OSError):
                operation(client, file, directory)
            with contextlib.suppress(OSError):
                client.call(client.union.fsync, file, False)
            forget_descriptors(client)


def test_snapshot_carries_no_file_from_outside(tmp_path: Path, outside: Outside) -> None:
    with opened(tmp_path, "upper", Options()) as client:
        client.call(client.union.open, client.node("f"), os.O_RDWR, ROOT)
        client.union.pin(client.node("f"))
        forget_descriptors(client)
        swap(tmp_path / "upper", outside.path)
        with contextlib.suppress(OSError):
            snapshot = client.union.prepare_snapshot("one")
            work = snapshot.copy_beforehand()
            if work is not None:
                work()
            snapshot.take()
    for directory, _, names in os.walk(tmp_path):
        for name in names if tmp_path / "outside" not in (Path(directory), *Path(directory).parents) else ():
            path = Path(directory, name)
            assert path.is_symlink() or path.read_bytes() != SECRET, path


def test_mode_is_not_changed_through_a_link(tmp_path: Path, outside: Outside) -> None:
    (tmp_path / "link").symlink_to(outside.path / "f")
    for change in (change_mode, _by_descriptor):
        with pytest.raises(OSError, match="not supported"):
            change(bytes(tmp_path / "link"), 0o4777, None)
    assert outside.changes == []


@pytest.mark.parametrize("change", [change_mode, _by_descriptor])
def test_mode_is_changed_by_a_path_from_a_directory_too(tmp_path: Path, change: Callable[..., None]) -> None:
    (tmp_path / "f").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        change(b"f", 0o4751, fd)
    finally:
        os.close(fd)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o4751


# -- a race ---------------------------------------------------------------------------------------------------------------

ROUNDS = int(os.environ.get("UNIONFS_SWAPS", "150"))
"""Of all clients; ``UNIONFS_SWAPS=100000`` is the longer run."""


@contextlib.contextmanager
def flipping(layer: Path) -> Iterator[None]:
    """A thread that makes ``d`` and ``f`` of the layer now what they are, now links to the outside.

    They lead there from the layer, and nowhere from the mount: there it is the client who follows them, with its own rights.
    """
    ends = threading.Event()

    def flip() -> None:
        while not ends.is_set():
            for name in ("f", "d"):
                with contextlib.suppress(OSError):  # the union has moved it
                    os.rename(layer / name, layer.parent / f"aside-{name}")
                    os.symlink(f"../outside/{name}", layer / name)
                    os.unlink(layer / name)
                    os.rename(layer.parent / f"aside-{name}", layer / name)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def use(merged: Path, number: int) -> bytes:
    """What programs do; what was read."""
    read = b""
    steps: list[Callable[[], object]] = [
        lambda: os.listdir(merged / "d"),
        lambda: os.stat(merged / "d/g"),
        lambda: (merged / f"made{number}").mkdir(),
        lambda: (merged / "d" / f"n{number}").write_bytes(b"x"),
        lambda: (merged / "f").chmod(0o640 + number % 8),
        lambda: (merged / "d").chmod(0o750 + number % 8),
        lambda: os.chown(merged / "d/f", number, number),
        lambda: os.setxattr(merged / "d", "user.mine", b"%d" % number),
        lambda: os.utime(merged / "f"),
        lambda: os.rename(merged / "d/g", merged / "d/h"),
        lambda: os.rename(merged / "d/h", merged / "d/g"),
        lambda: os.truncate(merged / "f", number % 7),
        lambda: os.unlink(merged / "d" / f"n{number}"),
    ]
    for step in steps:
        with contextlib.suppress(OSError):
            step()
    for name in ("f", "d/f", "d/g"):
        with contextlib.suppress(OSError):
            read += (merged / name).read_bytes()
    return read


@pytest.mark.parametrize(("backend", "layer"), [(DIRECT, "upper"), (PYFUSE3, "upper"), (DIRECT, "lower")], ids=str)
@pytest.mark.expects_log_error(".*")  # whatever a layer that is changed underneath makes it say
def test_racing_clients(tmp_path: Path, outside: Outside, backend: Backend, layer: str) -> None:
    merged = tmp_path / "elsewhere/merged"
    for name in ("lower", "upper", "work", "elsewhere/merged"):
        build(tmp_path / name, TREE if name == layer else EMPTY)
    backend.mount([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work", merged)
    try:
        with flipping(tmp_path / layer):
            for number in range(ROUNDS // 3):
                assert SECRET not in use(merged, number)
        assert outside.changes == []
        # It has come through: what does not concern the names that were played with works.
        (merged / "after").write_bytes(b"alive")
        assert (tmp_path / "upper/after").read_bytes() == b"alive"
    finally:
        backend.umount(merged)
