"""The grammar of -o."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.mounter.option_syntax import split_lowers, split_options, unescape


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", []),
        ("ro", [("ro", None)]),
        ("ro,noexec", [("ro", None), ("noexec", None)]),
        ("upperdir=/u,workdir=/w,,volatile", [("upperdir", "/u"), ("workdir", "/w"), ("volatile", None)]),
        ("ro, ", [("ro", None), (" ", None)]),
        ("ro,", [("ro", None)]),
        ("upperdir=", [("upperdir", "")]),
        ("upperdir=a=b", [("upperdir", "a=b")]),
        (r"upperdir=a\,b,ro", [("upperdir", r"a\,b"), ("ro", None)]),
        (r"upperdir=a\\,ro", [("upperdir", r"a\\"), ("ro", None)]),
        ("upperdir=a\\", [("upperdir", "a\\")]),
    ],
)
def test_options_end_at_commas_without_backslash(text: str, options: list[tuple[str, str | None]]) -> None:
    assert list(split_options(text)) == options


@pytest.mark.parametrize(
    ("value", "lowers", "data"),
    [
        ("/a", ["/a"], []),
        ("/a:/b", ["/a", "/b"], []),
        (r"/a\:b:/c", ["/a:b", "/c"], []),
        (r"/a\\:/c", ["/a\\", "/c"], []),
        (r"/a\,b", ["/a,b"], []),
        ("a\nb:c", ["a\nb", "c"], []),
        ("/a::/b", ["/a"], ["/b"]),
        ("/a:/b::/c::/d", ["/a", "/b"], ["/c", "/d"]),
        (r"/a::/b\:\:c", ["/a"], ["/b::c"]),
    ],
)
def test_directories_end_at_colons_without_backslash_and_data_follows_two(value: str, lowers: list[str], data: list[str]) -> None:
    assert split_lowers(value) == (lowers, data)


# All of them refused by the kernel too: tests/behaviour/test_data_layers.py.
@pytest.mark.parametrize("value", [":", ":/a", "::/a", "/a:", "/a::", "/a:::/b", "/a::/b:", "/a::/b:/c"])
def test_colons_that_separate_nothing_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"empty directory name|after a data-only one"):
        split_lowers(value)


def _escaped(name: str) -> str:
    return "".join(f"\\{character}" if character in "\\,:" else character for character in name)


_names = st.text(st.characters(exclude_characters="\0"), min_size=1)


@given(st.lists(_names, min_size=1), _names)
def test_any_escaped_name_comes_back(lowers: list[str], upper: str) -> None:
    text = f"lowerdir={':'.join(map(_escaped, lowers))},upperdir={_escaped(upper)}"
    (first, lowerdir), (second, upperdir) = split_options(text)
    assert (first, second) == ("lowerdir", "upperdir")
    assert split_lowers(lowerdir or "") == (lowers, [])
    assert unescape(upperdir or "") == upper


@given(st.text())
def test_any_text_can_be_split(text: str) -> None:
    written = [name if value is None else f"{name}={value}" for name, value in split_options(text)]
    assert "" not in written
    # Only separators that stand between nothing are lost.
    assert list(split_options(",".join(written))) == list(split_options(text))
