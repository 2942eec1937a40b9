"""File names are bytes: anything but NUL and the slash, up to 255 of them."""

from __future__ import annotations

import errno
import os

import pytest

from .layers import Dir, Tree
from .syscalls import fails_with
from .union import Union

layers = pytest.mark.layers

NAMES = [
    b"\xff\xfe not utf-8 \x80",
    "é".encode(),
    "e\u0301".encode(),
    b"new\nline",
    b"tab\tand space ",
    b" ",
    b"...",
    b"-rf",
    b"back\\slash",
    b"colon:comma,",
    b"quote'\"",
    b"*?[a]",
    b"\x01\x7f",
    b"#tmp",
    b"n" * 255,
    b"\xc3" * 255,
    b".wh",
]
TREE: Tree = {name: b"content of " + name for name in NAMES}


@layers(TREE)
def test_are_listed_and_found_as_they_are(union: Union) -> None:
    top = os.fsencode(union.merged)
    assert sorted(os.listdir(top)) == sorted(TREE)
    for name in NAMES:
        with open(os.path.join(top, name), "rb") as file:
            assert file.read() == b"content of " + name


@layers(TREE)
def test_can_be_copied_up_renamed_and_removed(union: Union) -> None:
    top, upper = os.fsencode(union.merged), os.fsencode(union.upper)
    for name in TREE:
        assert isinstance(name, bytes)
        path = os.path.join(top, name)
        os.chmod(path, 0o600)
        assert os.path.exists(os.path.join(upper, name))
        os.rename(path, os.path.join(top, b"temporary"))
        os.rename(os.path.join(top, b"temporary"), path)
        os.unlink(path)
    assert os.listdir(top) == []


def test_can_be_made(union: Union) -> None:
    top = os.fsencode(union.merged)
    for name in TREE:
        assert isinstance(name, bytes)
        os.mkdir(os.path.join(top, name))
        os.symlink(name, os.path.join(top, name, name))
        assert os.readlink(os.path.join(top, name, name)) == name
    assert sorted(os.listdir(top)) == sorted(TREE)


@layers({"d": Dir()})
def test_of_256_bytes_are_enametoolong(union: Union) -> None:
    long = union.merged / ("n" * 256)
    for call in (
        lambda: os.stat(long),
        lambda: os.open(long, os.O_CREAT | os.O_WRONLY),
        lambda: os.mkdir(long),
        lambda: os.symlink("x", long),
        lambda: os.unlink(long),
        lambda: os.rename(union.merged / "d", long),
    ):
        with fails_with(errno.ENAMETOOLONG):
            call()


def test_differ_by_case(union: Union) -> None:
    (union.merged / "name").write_bytes(b"lower")
    (union.merged / "Name").write_bytes(b"upper")
    assert union.names() == ["Name", "name"]
    assert (union.merged / "name").read_bytes() == b"lower"


def test_deep_paths(union: Union) -> None:
    """Deeper than PATH_MAX: every step is relative to the one before."""
    name = "d" * 250
    directory = os.open(union.merged, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(20):
        os.mkdir(name, dir_fd=directory)
        deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = deeper
    with open(os.open("f", os.O_CREAT | os.O_RDWR, dir_fd=directory), "r+b") as file:
        file.write(b"deep")
        file.seek(0)
        assert file.read() == b"deep"
    assert os.listdir(directory) == ["f"]
    os.close(directory)
