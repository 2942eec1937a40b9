"""Attributes of the union with values, or at places, that mean nothing."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.behaviour.layers import Dir, File, Node, Special, Symlink, Tree
from tests.check.damaged import PREFIX, damaged, mark
from unionfs.check import Severity
from unionfs.overlay.origin import malformation

HANDLE = struct.pack("<BBBBB16s", 0, 0xFB, 29, 0, 1, bytes(16)) + b"12345678"


def directory(**marks: bytes) -> Dir:
    return Dir(xattrs={PREFIX + name: value for name, value in marks.items()})


def file(data: bytes = b"", **marks: bytes) -> File:
    return File(data, xattrs={PREFIX + name: value for name, value in marks.items()})


SOUND: Tree = {
    "opaque": directory(opaque=b"y"),
    "with-whiteouts": directory(opaque=b"x"),
    "with-whiteouts/gone": file(whiteout=b""),
    "impure": directory(impure=b"y"),
    "impure/copied-up": file(b"data", origin=HANDLE),
    "impure/from-somewhere": file(b"data", origin=b""),
    "impure/other-byte-order": file(b"data", origin=HANDLE[:3] + b"\x01" + HANDLE[4:]),
    "metacopy": file(metacopy=b"", redirect=b"/elsewhere"),
    "metacopy-with-digest": file(metacopy=b"\x00\x24\x00\x01" + bytes(32)),
    "linked": file(nlink=b"U+1"),
    "linked-below": file(nlink=b"L-12"),
    "protected": file(protattr=b"ia"),
    "escaped": file(**{"overlay.opaque": b"anything"}),
    "redirected": directory(redirect=b"other"),
    "impure/copied-up-from-snapshot": file(b"data", origin=HANDLE, **{"unionfs.origin": HANDLE}),
}


def test_sound_attributes_are_no_findings(tmp_path: Path) -> None:
    stack = damaged(tmp_path, SOUND)
    os.setxattr(stack.upper, f"{PREFIX}uuid", bytes(range(16)))
    os.setxattr(stack.upper, f"{PREFIX}origin", HANDLE)
    os.setxattr(stack.upper, f"{PREFIX}unionfs.snapshots", b"2 1")
    os.setxattr(stack.upper, f"{PREFIX}unionfs.made-with", b"2")
    assert stack.found() == []


@pytest.mark.parametrize(
    ("node", "repaired"),
    [
        (directory(opaque=b"yes"), {}),
        (directory(opaque=b""), {}),
        (directory(opaque=b"n"), {}),
        (directory(impure=b"x"), {"impure": b"y"}),
        (file(nlink=b"U1"), {}),
        (file(nlink=b"U+1\n"), {}),
        (file(nlink=b"X+1"), {}),
        (file(nlink=b"U+12345678901"), {}),
        (file(protattr=b"ax"), None),
        (file(metacopy=b"\x00"), None),
        (file(metacopy=b"\x01\x04\x00\x00"), None),
        (file(metacopy=b"\x00\x24\x00\x01" + bytes(31)), None),
    ],
    ids=repr,
)
def test_value_that_means_nothing(tmp_path: Path, node: Node, repaired: dict[str, bytes] | None) -> None:
    stack = damaged(tmp_path, {"x": node})
    before = mark(stack.upper / "x")
    assert stack.found() == [("bad-attribute", "upper/x")]
    assert mark(stack.upper / "x") == before
    stack.repaired()
    assert mark(stack.upper / "x") == (before if repaired is None else repaired)
    assert stack.found() == ([("bad-attribute", "upper/x")] if repaired is None else [])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"\x00\xfb\x1d", "3 bytes, too few for a file handle"),
        (HANDLE[:-1], "28 bytes, but says 29"),
        (b"\x00\xfa" + HANDLE[2:], "does not begin as file handles do (magic 0xfa)"),
        (b"\x07" + HANDLE[1:], "a file handle of the unknown version 7"),
    ],
)
def test_origin_that_is_no_file_handle_becomes_unknown(tmp_path: Path, value: bytes, problem: str) -> None:
    assert malformation(value) == problem
    stack = damaged(tmp_path, {"d": directory(impure=b"y"), "d/f": file(b"data", origin=value)})
    (outcome,) = stack.check()
    assert outcome.finding.problem == f"trusted.overlay.origin {problem}"
    assert stack.repaired() == [("bad-attribute", "upper/d/f")]
    assert mark(stack.upper / "d/f") == {"origin": b""}


@pytest.mark.parametrize("size", [0, 15, 17])
def test_uuid_of_another_size(tmp_path: Path, size: int) -> None:
    stack = damaged(tmp_path, {})
    os.setxattr(stack.upper, f"{PREFIX}uuid", bytes(size))
    assert stack.repaired() == [("bad-attribute", "upper")]
    assert mark(stack.upper) == {}


@pytest.mark.parametrize(
    "node",
    [
        file(opaque=b"y"),
        file(impure=b"y"),
        directory(metacopy=b""),
        directory(nlink=b"U+1"),
        file(b"not empty", whiteout=b"y"),
        directory(whiteout=b"y"),
        directory(uuid=bytes(16)),
        directory(**{"unionfs.snapshots": b"1"}),
        directory(upper=HANDLE),
        Symlink("x", xattrs={f"{PREFIX}redirect": b"/x"}),
        Special(0o010000, xattrs={f"{PREFIX}metacopy": b""}),
    ],
    ids=repr,
)
def test_attribute_where_it_means_nothing(tmp_path: Path, node: Node) -> None:
    stack = damaged(tmp_path, {"x": node})
    assert stack.repaired() == [("misplaced-attribute", "upper/x")]
    assert mark(stack.upper / "x") == {}


def test_unknown_attribute_is_a_note_and_stays(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {"x": file(novel=b"1")})
    (outcome,) = stack.check()
    assert (outcome.finding.kind, outcome.finding.severity) == ("unknown-attribute", Severity.NOTE)
    assert not outcome.is_left
    stack.repaired()
    assert mark(stack.upper / "x") == {"novel": b"1"}


def test_both_names_of_a_file_are_repaired_at_once(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {"x": file(nlink=b"")})
    os.link(stack.upper / "x", stack.upper / "y")
    assert stack.repaired() == [("bad-attribute", "upper/x"), ("bad-attribute", "upper/y")]


def test_only_one_namespace_is_looked_at(tmp_path: Path) -> None:
    node = Dir(xattrs={"user.overlay.opaque": b"bad", "trusted.overlay.impure": b"bad"})
    stack = damaged(tmp_path, {"x": node}, userxattr=True)
    assert stack.repaired() == [("bad-attribute", "upper/x")]
    assert mark(stack.upper / "x", "user.overlay.") == {}
    assert mark(stack.upper / "x") == {"impure": b"bad"}
