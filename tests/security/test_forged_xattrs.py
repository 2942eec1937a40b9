"""Layers made by somebody hostile: whatever the union's own attributes say, nothing outside of the layers shows, and what a
client sees ends (no endless tree, no crash)."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.overlay.client import Client, build
from tests.security.outside import SECRET, Outside
from unionfs.linux.handles import AT_EMPTY_PATH, name_to_handle_at
from unionfs.linux.uuid import filesystem_uuid
from unionfs.overlay import Options, Stack, Union

PREFIX = "trusted.overlay."
EVERYTHING = Options(metacopy=True, index="auto")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    made = Outside(tmp_path / "outside")
    yield made
    assert made.changes == []


@pytest.fixture
def top(tmp_path: Path, outside: Outside) -> Path:
    return layers(tmp_path, outside)


def layers(top: Path, outside: Outside) -> Path:
    """``top`` with layers: ``d`` and ``f`` in the upper one and both lowers, links out of the layer in the bottom one."""
    for name in ("upper", "lower0", "lower1"):
        build(top / name, {"d/f": b"fine", "f": b"fine", "e": None})
    build(top / "work", {})
    (top / "lower1/absolute").symlink_to(outside.path)
    (top / "lower1/relative").symlink_to("../outside")
    (top / "lower1/file").symlink_to(outside.path / "f")
    return top


@contextlib.contextmanager
def opened(top: Path, options: Options = EVERYTHING) -> Iterator[Client]:
    union = Union(Stack((top / "lower0", top / "lower1"), top / "upper", top / "work"), options)
    try:
        yield Client(union)
    finally:
        union.close()


def walk(client: Client, path: str = "", depth: int = 0) -> Iterator[str]:
    """All that can be reached, as tests want it: an error ends one branch; a tree that does not end is a failure."""
    assert depth < 20, f"no end of {path}"
    try:
        names = client.names(path)
    except OSError:
        return
    for name in map(os.fsdecode, names):
        child = f"{path}/{name}" if path else name
        yield child
        with contextlib.suppress(OSError):
            if client.attr(child).mode & 0o170000 == 0o040000:
                yield from walk(client, child, depth + 1)


def use(client: Client) -> None:
    """Look at everything and change everything; each step may fail, with nothing but OSError."""
    for path in list(walk(client)):
        with contextlib.suppress(OSError):
            assert SECRET not in client.read(path), path
        with contextlib.suppress(OSError):
            client.chmod(path, 0o750)
        with contextlib.suppress(OSError):
            client.write(path, b"changed")
        with contextlib.suppress(OSError):
            client.rename(path, f"{path}-renamed")
        with contextlib.suppress(OSError):
            client.call(client.union.link, client.node(path), 1, os.fsencode(path.replace("/", "_") + "-linked"))


REDIRECTS = [
    b"..", b".", b"/..", b"/../..", b"/.", b"/./d", b"/d/..", b"/d/../../outside", b"../outside", b"/absolute", b"/absolute/d",
    b"/relative", b"/relative/d", b"absolute", b"relative", b"/file", b"file", b"//outside", b"//", b"/", b"/d//f", b"/d/",
    b"d/f", b"\0", b"/d\0", b"/" + b"n" * 300, b"/" + b"a/" * 2000 + b"a", b"\xff\xfe", b"/d/d/d", b"/proc/self/root", b"e\n",
]  # fmt: skip


@pytest.mark.parametrize(("layer", "place"), [("upper", "f"), ("lower0", "d")])
@pytest.mark.parametrize("value", REDIRECTS)
def test_redirect_does_not_lead_out_of_the_layers(top: Path, layer: str, place: str, value: bytes) -> None:
    os.setxattr(top / layer / place, f"{PREFIX}redirect", value)
    os.setxattr(top / layer, f"{PREFIX}impure", b"y")
    if place == "f":
        os.setxattr(top / layer / place, f"{PREFIX}metacopy", b"")
    with opened(top) as client:
        use(client)


@pytest.mark.parametrize("value", [b".", b"/.", b"/d/.", b"/./d"])
def test_redirect_to_the_directory_itself_is_refused(top: Path, value: bytes) -> None:
    # It would be merged with what it is in: a tree without end.  The kernel refuses the name (lookup_one_len, fs/namei.c).
    os.setxattr(top / "lower0/d", f"{PREFIX}redirect", value)
    os.rename(top / "upper/d", top / "upper/not-d")
    with opened(top) as client, pytest.raises(OSError, match="redirect"):
        client.node("d")


@pytest.mark.parametrize("target", ["absolute/f", "absolute/d/f", "relative/f", "file"])
def test_data_only_layer_is_not_left_through_a_link(top: Path, outside: Outside, target: str) -> None:
    build(top / "data", {"fine": b"data"})
    (top / "data/absolute").symlink_to(outside.path)
    (top / "data/relative").symlink_to("../outside")
    (top / "data/file").symlink_to(outside.path / "f")
    os.setxattr(top / "lower1/f", f"{PREFIX}redirect", f"/{target}".encode())
    os.setxattr(top / "lower1/f", f"{PREFIX}metacopy", b"")
    (top / "upper/f").unlink()
    (top / "lower0/f").unlink()
    union = Union(Stack((top / "lower0", top / "lower1"), top / "upper", top / "work", (top / "data",)), EVERYTHING)
    try:
        client = Client(union)
        with pytest.raises(OSError, match=r"."):
            client.read("f")
        with pytest.raises(OSError, match=r"."):
            client.write("f", b"x")
    finally:
        union.close()


def handle_of(path: Path) -> bytes:
    """A sound origin value that means a file which is in no layer."""
    fd = os.open(path, os.O_RDONLY)
    try:
        kind, fid = name_to_handle_at(fd, b"", AT_EMPTY_PATH)
        return struct.pack("<BBBBB16s", 0, 0xFB, 21 + len(fid), 0, kind, filesystem_uuid(fd)) + fid
    finally:
        os.close(fd)


VALUES = {
    "origin": [b"", b"\0", b"\xfb" * 21, bytes(255), b"\0\xfb\x1d\0\1" + bytes(24), b"\0\xfb\xff\7\xff" + bytes(250)],
    "metacopy": [b"", b"x", bytes(4), b"\0\x24\0\1" + bytes(32), b"\xff" * 36, b"\0\4\0\0", bytes(2000)],
    "nlink": [b"", b"U+99999999999999999999", b"L-1", b"U-5", b"U+-1", b"x", b"\0", b"L+" + b"9" * 2000],
    "impure": [b"", b"y", b"n", b"\0" * 100],
    "opaque": [b"", b"y", b"x", b"n", b"yy", b"\0" * 100],
    "protattr": [b"", b"i", b"a", b"ia", b"\xff" * 10],
    "whiteout": [b"", b"y", b"\0"],
    "uuid": [b"", b"x", bytes(16)],
    "upper": [b"", b"\0\xfb\x1d\4\1" + bytes(24), b"x" * 255],
    "unionfs.origin": [b"", b"x", b"\0\xfb\x1d\0\1" + bytes(24)],
}


@pytest.mark.parametrize("name", list(VALUES))
@pytest.mark.parametrize("layer", ["upper", "lower0"])
def test_forged_value_harms_nobody(tmp_path: Path, outside: Outside, layer: str, name: str) -> None:
    for number, value in enumerate(VALUES[name]):
        top = layers(tmp_path / str(number), outside)
        for place in ("d", "f", "d/f", "e", "."):
            os.setxattr(top / layer / place, f"{PREFIX}{name}", value)
        with opened(top) as client:
            use(client)


def test_origin_of_a_file_outside_gives_a_number_and_nothing_else(top: Path, outside: Outside) -> None:
    (top / "lower0/f").unlink()
    (top / "lower1/f").unlink()
    os.setxattr(top / "upper/f", f"{PREFIX}origin", handle_of(outside.path / "f"))
    os.setxattr(top / "upper/f", f"{PREFIX}metacopy", b"")
    os.setxattr(top / "upper", f"{PREFIX}impure", b"y")
    with opened(top) as client:
        with contextlib.suppress(OSError):
            assert SECRET not in client.read("f")
        use(client)


OWNERS = [
    b"",
    b"0:0:4755",
    b"0:0:104755",
    b"4294967295:0:755",
    b"-1:0:755",
    b"0:0:755:block-8-0",
    b"0:0:755:dir",
    b"x",
    b"0:0:" + b"7" * 500,
]


@pytest.mark.parametrize("value", OWNERS)
def test_owner_in_an_attribute_counts_only_where_the_mount_asks_for_it(top: Path, value: bytes) -> None:
    for name in ("user.containers.override_stat", "user.fuseoverlayfs.override_stat"):
        for place in ("upper", "upper/f", "lower0", "lower0/d"):
            os.setxattr(top / place, name, value)
    with opened(top) as client:
        attr = client.attr("f")
        assert (attr.mode, attr.uid, attr.rdev) == (0o100644, os.geteuid(), 0)
        use(client)


@pytest.mark.parametrize("name", [".wh..", ".wh...", ".wh.", ".wh..wh..opq", ".wh..wh.plnk", ".wh.\n", ".wh.d"])
def test_whiteout_file_hides_names_of_its_own_directory_only(top: Path, name: str) -> None:
    (top / "lower0/e" / name).write_bytes(b"")
    (top / "upper/e" / name).write_bytes(b"")
    with opened(top) as client:
        assert b"d" in client.names("")
        use(client)
