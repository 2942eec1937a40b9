"""Whatever the union's own attributes hold in layers of others: OSError at most, and nothing from outside of the layers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import hypothesis.strategies as st
from hypothesis import example, given

from tests.fuzz.bounds import outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import damaged
from tests.overlay.client import ROOT, Client, build
from unionfs.filesystem import ROOT_ID, SET_MODE, Changes
from unionfs.linux.handles import name_to_handle_at
from unionfs.overlay import Options, OwnerOptions, Stack, Union, kinds

T = TypeVar("T")
SECRET = b"nobody may see this"
PLACES = (
    *("upper", "upper/d", "upper/d/sub", "upper/m", "upper/e", "upper/r", "upper/empty"),
    *("lower0", "lower0/d", "lower0/d/f", "lower0/m", "lower0/e", "lower0/h1", "lower0/empty"),
    *("lower1", "lower1/d", "lower1/m", "lower1/e"),
    *("work/index", "work/index/ENTRY", "work/work"),
)
REDIRECTS = (
    *(b"/d", b"/", b"", b"d", b"e", b".", b"..", b"/..", b"/../outside", b"../outside", b"/link", b"/link/secret", b"link"),
    *(b"/absolute", b"/d/..", b"/d//sub", b"/d/./sub", b"/d/sub", b"/" + b"d/" * 120 + b"d", b"x" * 300, b"/m", b"m", b"\0"),
    *(b"/e\0", b"/d/\xff", b"/x", b"/secret", b"/outside/secret"),
)
METACOPIES = (b"", b"\0\4\0\0", b"\0\x24\0\1" + bytes(32), b"\0\4\0\1", b"\1\4\0\0", b"\0\3\0", b"\0\xff\0\0")
COUNTS = (b"U+1", b"U-1", b"L+0", b"L-3", b"U+9999999999", b"L-9999999999", b"U+99999999999", b"U", b"+1", b"U+1 ")
OWNERS: tuple[bytes, ...] = (
    b"0:0:755",
    b"0:0:0",
    b"1:2:100755:dir",
    b"0:0:644:file",
    b"0:0:644:char-1-3",
    b"4294967294:4294967294:7777777",
)
OWNERS += (b"4294967295:0:755", b"9" * 5000 + b":0:755", b"0:0:" + b"7" * 5000, b"0:0:644:block-99999999999999999999-1", b"a:b:c")
OWNERS += (b"0:0:644:symlink", b"0:0:644:dir", b"-1:0:755", b"0:0:644:char-" + b"9" * 5000 + b"-1")
NUMBERS = (b"1", b"1 2", b"-1", b"9" * 5000, b"x", b"\xc2\xb2", b"0", b"../1", b" ", b"1_0")
ANYTHING = st.binary(max_size=12) | st.binary(min_size=300, max_size=300)
ORIGIN = b"origin"
"""Stands for the origin that a lower file really has."""
HANDLES = st.just(ORIGIN) | st.builds(
    lambda flags, kind, uuid, handle: bytes([0, 0xFB, 21 + len(handle), flags, kind]) + uuid + handle,
    st.sampled_from([0, 1, 2, 4, 6, 255]),
    st.integers(0, 255),
    st.just(bytes(16)) | st.binary(min_size=16, max_size=16),
    st.binary(max_size=128),
)

ATTRIBUTES: dict[str, st.SearchStrategy[bytes]] = {
    "overlay.redirect": st.sampled_from(REDIRECTS) | ANYTHING,
    "overlay.opaque": st.sampled_from([b"y", b"x", b"", b"yy"]) | ANYTHING,
    "overlay.metacopy": st.sampled_from(METACOPIES) | ANYTHING,
    "overlay.origin": HANDLES | ANYTHING,
    "overlay.impure": st.sampled_from([b"y", b"n"]) | ANYTHING,
    "overlay.nlink": st.sampled_from(COUNTS) | ANYTHING,
    "overlay.upper": HANDLES | ANYTHING,
    "overlay.whiteout": st.just(b"y") | ANYTHING,
    "overlay.uuid": ANYTHING,
    "overlay.protattr": ANYTHING,
    "overlay.unionfs.origin": HANDLES | ANYTHING,
    "overlay.unionfs.snapshots": st.sampled_from(NUMBERS) | ANYTHING,
    "overlay.unionfs.made-with": st.sampled_from(NUMBERS) | ANYTHING,
    "fuseoverlayfs.override_stat": st.sampled_from(OWNERS) | ANYTHING,
    "containers.override_stat": st.sampled_from(OWNERS) | ANYTHING,
}


class Attribute(NamedTuple):
    """An attribute of an object in a layer; ``ENTRY`` in the place is that of the index for `ORIGIN`."""

    place: str
    name: str
    value: bytes

    def set(self, directory: Path, origin: bytes) -> None:
        value = self.value.replace(ORIGIN, origin)
        # A value that its filesystem refuses is no value in a layer.
        with contextlib.suppress(OSError):
            os.setxattr(directory / self.place.replace("ENTRY", origin.hex()), self.name, value, follow_symlinks=False)


@st.composite
def attributes(draw: st.DrawFn) -> Attribute:
    name = draw(st.sampled_from(list(ATTRIBUTES)))
    value = draw(ATTRIBUTES[name].flatmap(damaged) | ATTRIBUTES[name])
    namespace = draw(st.sampled_from(["user", "security", "trusted"] if "override" in name else ["trusted"] * 4 + ["user"]))
    return Attribute(draw(st.sampled_from(PLACES)), f"{namespace}.{name}", value)


def layers_in(directory: Path) -> Stack:
    """Layers with whatever attributes may be about: merged directories, links out of the layer, hard links, an index."""
    build(directory / "outside", {"secret": SECRET, "d/secret": SECRET})
    build(directory, {"secret": SECRET})
    upper = build(directory / "upper", {"d/sub/u": b"1", "m": b"2", "e": None, "r/x": b"3", "empty": b""})
    lower = build(
        directory / "lower0", {"d/f": b"4", "d/sub/g": b"5", "m": b"6", "e/h": b"7", "h1": b"8", "empty": b"", "data": b"9"}
    )
    os.link(lower / "h1", lower / "h2")
    (lower / "link").symlink_to("../outside")
    (lower / "absolute").symlink_to(directory / "outside")
    below = build(directory / "lower1", {"d/f2": b"a", "m": b"b", "e/i": b"c", "x/y": b"d"})
    data = build(directory / "data", {"m": b"data of m", "d/f": b"data of f"})
    (data / "link").symlink_to("../outside")
    work = build(directory / "work", {"index": None, "work": None})
    os.link(upper / "m", work / "index" / origin_of(lower / "h1").hex())
    return Stack((lower, below), upper, work, (data,))


def origin_of(path: Path) -> bytes:
    """``struct ovl_fb`` of a file on a filesystem without a UUID that is told (null: any)."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        kind, handle = name_to_handle_at(directory, os.fsencode(path.name), 0)
    finally:
        os.close(directory)
    return bytes([0, 0xFB, 21 + len(handle), 0, kind]) + bytes(16) + handle


def tried(call: Callable[[], T]) -> T | None:
    """What ``call`` returns; None where it fails as it may."""
    found = outcome(call, OSError)
    if not isinstance(found, OSError):
        return found
    # That without a number is the client's: there is nothing at its path.
    assert found.errno is not None or type(found) is FileNotFoundError, repr(found)
    return None


def look(client: Client, most: int = 60) -> None:
    """All that a user can see, up to so many objects: redirects may make a tree without end."""
    union = client.union
    waiting = [ROOT_ID]
    for _ in range(most):
        if not waiting:
            return
        node = waiting.pop(0)
        tried(lambda node=node: client.call(union.getattr, node))  # type: ignore[misc]
        tried(lambda node=node: client.call(union.listxattr, node, ROOT))  # type: ignore[misc]
        waiting += directory_entries(client, node)
        content = tried(lambda node=node: bytes(client.call(union.read, node, 0, 4096)))  # type: ignore[misc]
        assert content != SECRET


def directory_entries(client: Client, node: int) -> list[int]:
    rows = tried(lambda: list(client.call(lambda: list(client.union.readdirplus(node, 0)))))
    found = []
    for row in rows or ():
        assert row.name != b"secret" or row.kind == kinds.DIR
        if row.entry is not None:
            found.append(row.entry.node)
    return found


def change(client: Client) -> None:
    """Changes that read the attributes: copy-ups, renames, links, removals."""
    for path in ("m", "d/f", "d", "e", "h1", "h2", "empty", "r"):
        tried(lambda path=path: client.call(client.union.setattr, client.node(path), Changes(SET_MODE, 0o700), ROOT))  # type: ignore[misc]
    for path in ("m", "h1", "d/f", "empty"):
        tried(lambda path=path: client.write(path, b"new"))  # type: ignore[misc]
    for old, new in (("d", "moved"), ("m", "e/m"), ("h2", "d2"), ("r", "e/r")):
        tried(lambda old=old, new=new: client.rename(old, new))  # type: ignore[misc]
    for path in ("h1", "e/m", "empty"):
        tried(lambda path=path: client.unlink(path))  # type: ignore[misc]


OPTIONS = st.sampled_from(
    [
        Options(index="on"),
        Options(index="on", metacopy=True),
        Options(index="auto", metacopy=True, owners=OwnerOptions(detects_overrides=True)),
        Options(redirect_dir="follow"),
        Options(redirect_dir="nofollow", owners=OwnerOptions(overrides="containers")),
        Options(userxattr=True, owners=OwnerOptions(overrides="privileged")),
    ]
)


def owner_of_root(value: bytes) -> list[Attribute]:
    return [Attribute(layer, "user.containers.override_stat", value) for layer in ("upper", "lower0", "lower0/d")]


DATA_OUTSIDE = Attribute("upper/m", "trusted.overlay.redirect", b"/link/secret")
OVERRIDES = Options(owners=OwnerOptions(detects_overrides=True))


@effort(100)
@given(attributes=st.lists(attributes(), max_size=8), options=OPTIONS, is_writable=st.booleans())
@example(owner_of_root(b"9" * 5000 + b":0:755"), OVERRIDES, True)
@example([*owner_of_root(b"0:0:755"), Attribute("lower0/m", "user.containers.override_stat", OWNERS[9])], OVERRIDES, True)
@example([Attribute("lower0/d", "trusted.overlay.redirect", b"/link")], Options(), True)
@example(
    [Attribute("upper/m", "trusted.overlay.metacopy", b""), DATA_OUTSIDE],
    Options(metacopy=True),
    True,
)
def test_attributes_of_layers_lead_to_errors_at_most(
    new_directory: Callable[..., Path], attributes: Sequence[Attribute], options: Options, is_writable: bool
) -> None:
    directory = new_directory()
    stack = layers_in(directory)
    if not is_writable:
        stack = Stack((directory / "upper", *stack.lowers), data=stack.data)
    origin = origin_of(directory / "lower0/h1")
    for attribute in attributes:
        attribute.set(directory, origin)
    with opened(stack, options) as client:
        if client is not None:
            look(client)
            change(client)
            look(client)
    assert (directory / "secret").read_bytes() == (directory / "outside/secret").read_bytes() == SECRET
    assert sorted(os.listdir(directory / "outside")) == ["d", "secret"]


@contextlib.contextmanager
def opened(stack: Stack, options: Options) -> Iterator[Client | None]:
    union = tried(lambda: Union(stack, options))
    if union is None:
        yield None
        return
    assert isinstance(union, Union)
    with contextlib.closing(union):
        yield Client(union)
