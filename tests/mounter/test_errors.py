"""Errors are one line, fit for a terminal."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.mounter.errors import MounterError, from_os_error, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [("/a b/ü", "/a b/ü"), ("a\nb", "a\\x0ab"), ("\x1b[31m", "\\x1b[31m"), (os.fsdecode(b"\xff"), "\\xff"), ("a\\b", "a\\\\b")],
)
def test_unprintable_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.binary().map(os.fsdecode), st.binary().map(os.fsdecode))
def test_different_names_are_shown_differently(one: str, other: str) -> None:
    assert (printable(one) == printable(other)) is (one == other)


def test_an_error_names_the_thing_the_problem_and_the_remedy() -> None:
    assert str(MounterError("/a\n", "is bad", "make it good")) == "/a\\x0a: is bad; make it good"
    assert str(MounterError("/a", "is bad")) == "/a: is bad"


@pytest.mark.parametrize("name", ["/a", b"/a"])
def test_a_system_error_is_about_its_file(name: str | bytes) -> None:
    assert str(from_os_error(OSError(2, "No such file or directory", name))) == "/a: No such file or directory"
