"""What can be told only with the lowers: redirects, data of metacopies, whiteouts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.behaviour.layers import OPAQUE, WHITEOUT, Dir, File, Symlink, Tree
from tests.check.damaged import PREFIX, damaged, mark
from unionfs.check import Severity


def redirected(target: bytes) -> Dir:
    return Dir(xattrs={f"{PREFIX}redirect": target, f"{PREFIX}origin": b""})


def metacopy(redirect: bytes = b"") -> File:
    marks = {f"{PREFIX}metacopy": b"", f"{PREFIX}origin": b""} | ({f"{PREFIX}redirect": redirect} if redirect else {})
    return File(size=4, xattrs=marks)


IMPURE = Dir(xattrs={f"{PREFIX}impure": b"y"})
LOWER: Tree = {"dir/sub/f": b"data", "dir/g": b"data", "file": b"data"}


# -- redirects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "upper",
    [
        {"moved": redirected(b"/dir"), "dir": WHITEOUT},
        {"moved": redirected(b"dir"), "dir": WHITEOUT},
        {"moved": redirected(b"/dir"), "dir": b"a file in its place"},
        {"moved": redirected(b"/dir"), "dir": OPAQUE},
        {"moved": redirected(b"/dir/sub"), "dir": Dir(), "dir/sub": WHITEOUT},
        {"moved": redirected(b"/dir/sub"), "dir": WHITEOUT},
        {"moved": redirected(b"/dir/sub"), "elsewhere": redirected(b"/dir"), "elsewhere/sub": WHITEOUT, "dir": WHITEOUT},
        {"dir": OPAQUE, "dir/moved": redirected(b"/dir")},
    ],
    ids=str,
)
def test_moved_directories_are_no_findings(tmp_path: Path, upper: Tree) -> None:
    parents = {os.path.dirname(name) for name, node in upper.items() if isinstance(node, Dir) and node not in (OPAQUE, Dir())}
    stack = damaged(tmp_path, upper, LOWER)
    for parent in parents:
        os.setxattr(stack.upper / str(parent), f"{PREFIX}impure", b"y")
    assert stack.found() == []


def test_redirect_that_leads_nowhere(tmp_path: Path) -> None:
    upper = {".": IMPURE, "a": redirected(b"/missing"), "b": redirected(b"file"), "c": redirected(b"/file/x")}
    stack = damaged(tmp_path, upper, LOWER)
    assert sorted(stack.found()) == [("dangling-redirect", f"upper/{name}") for name in "abc"]
    stack.repaired()
    assert mark(stack.upper / "a")["redirect"] == b"/missing"


def test_without_the_lowers_only_the_syntax_of_redirects_is_checked(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {".": IMPURE, "a": redirected(b"/missing"), "b": redirected(b"a/b")})
    assert stack.found() == [("bad-redirect", "upper/b")]


@pytest.mark.parametrize("value", [b"", b"a/b", b"/a//b", b"/a/", b"/../a", b".."])
def test_malformed_redirect(tmp_path: Path, value: bytes) -> None:
    upper = {".": IMPURE, "d": redirected(value), "d/inside": b"", "f": File(xattrs={f"{PREFIX}redirect": value})}
    stack = damaged(tmp_path, upper, LOWER)
    assert stack.found() == [("bad-redirect", "upper/d"), ("bad-redirect", "upper/f")]


def test_malformed_redirect_of_a_lower_directory(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {"d": Dir()}, {"d": redirected(b"a/b")}, {"d": Dir()})
    (outcome,) = stack.check()
    assert outcome.finding.path == stack.upper / "d"
    assert outcome.finding.problem == "cannot be merged with the layers below: invalid redirect b'a/b' in a layer"


def test_lower_directory_that_two_redirects_lead_to(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {".": IMPURE, "a": redirected(b"/dir"), "b": redirected(b"/dir"), "dir": WHITEOUT}, LOWER)
    ((kind, _),) = stack.found()
    assert kind == "redirect-duplicate"


@pytest.mark.parametrize("upper", [{}, {"dir": Dir()}], ids=["not copied up", "copied up"])
def test_moved_directory_that_shows_at_its_old_place_too(tmp_path: Path, upper: Tree) -> None:
    stack = damaged(tmp_path, {".": IMPURE, "moved": redirected(b"/dir"), **upper}, LOWER)
    ((kind, path),) = stack.found()
    assert kind == "redirect-duplicate"
    assert path in ("upper/moved", "upper/dir")


@pytest.mark.parametrize("target", [b"/dir", b"/"])
def test_directory_that_is_redirected_into_itself(tmp_path: Path, target: bytes) -> None:
    upper = {".": IMPURE, "dir": IMPURE, "dir/again": redirected(target)}
    stack = damaged(tmp_path, upper, LOWER)
    assert stack.found() == [("redirect-loop" if target == b"/dir" else "bad-redirect", "upper/dir/again")]


def test_directory_moved_in_a_lower_layer_and_again_in_the_upper(tmp_path: Path) -> None:
    middle = {".": IMPURE, "middle": redirected(b"/dir"), "dir": WHITEOUT}
    stack = damaged(tmp_path, {".": IMPURE, "top": redirected(b"/middle"), "middle": WHITEOUT}, middle, LOWER)
    assert stack.found() == []


# -- metacopies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upper", "lowers"),
    [
        ({"file": metacopy()}, [LOWER]),
        ({"moved": metacopy(b"file")}, [LOWER]),
        ({"moved": metacopy(b"/dir/sub/f")}, [LOWER]),
        ({"file": metacopy()}, [{"file": metacopy(b"/dir/g")}, LOWER]),
        ({"file": metacopy()}, [{"file": metacopy(b"other")}, {"other": metacopy(b"/dir/sub/f")}, LOWER]),
        ({"file": metacopy(b"/moved/g")}, [{"moved": redirected(b"/dir")}, LOWER]),
    ],
    ids=str,
)
def test_metacopy_with_its_data_in_a_lower_layer(tmp_path: Path, upper: Tree, lowers: list[Tree]) -> None:
    assert damaged(tmp_path, {".": IMPURE, **upper}, *lowers).found() == []


@pytest.mark.parametrize(
    ("upper", "lowers"),
    [
        ({"x": metacopy()}, [LOWER]),
        ({"file": metacopy(b"missing")}, [LOWER]),
        ({"file": metacopy(b"/dir/missing")}, [LOWER]),
        ({"file": metacopy(b"/missing/f")}, [LOWER]),
        ({"dir": metacopy()}, [LOWER]),
        ({"file": metacopy()}, [{"file": WHITEOUT}, LOWER]),
        ({"file": metacopy()}, [{"file": metacopy()}]),
        ({"file": metacopy()}, [{"file": metacopy(b"/file")}]),
        ({"file": metacopy(b"/d/f")}, [{"d": redirected(b"a/b")}, LOWER]),
    ],
    ids=str,
)
def test_metacopy_whose_data_is_nowhere(tmp_path: Path, upper: Tree, lowers: list[Tree]) -> None:
    stack = damaged(tmp_path, {".": IMPURE, **upper}, *lowers)
    assert stack.found() == [("dangling-metacopy", f"upper/{next(iter(upper))}")]


@pytest.mark.parametrize(
    ("upper", "lowers", "data"),
    [
        ({"file": metacopy()}, [{"file": metacopy(b"/sub/f")}], {"sub/f": b""}),
        ({"moved": metacopy(b"/dir/f")}, [{"dir/f": metacopy(b"/sub/f")}, LOWER], {"sub/f": b""}),
        ({"file": metacopy()}, [{"file": metacopy(b"/dir/f")}, {"dir/f": Dir()}], {"dir/f": b""}),
    ],
    ids=str,
)
def test_metacopy_with_its_data_in_a_data_only_layer(tmp_path: Path, upper: Tree, lowers: list[Tree], data: Tree) -> None:
    assert damaged(tmp_path, {".": IMPURE, **upper}, *lowers, data=data).found() == []
    assert [kind for kind, _ in damaged(tmp_path / "other", {".": IMPURE, **upper}, *lowers, data={"sub": b""}).found()] == [
        "dangling-metacopy"
    ]


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ({"file": metacopy(b"/sub/f")}, {}),
        ({"file": metacopy()}, {"file": metacopy(b"f")}),
        ({"file": metacopy()}, {"file": metacopy(b"/sub/link")}),
    ],
    ids=str,
)
def test_metacopy_that_leads_to_no_data_only_layer(tmp_path: Path, upper: Tree, lower: Tree) -> None:
    data: Tree = {"sub/f": b"", "f": b"", "sub/link": Symlink("f")}
    assert damaged(tmp_path, {".": IMPURE, **upper}, lower, data=data).found() == [("dangling-metacopy", "upper/file")]


# -- whiteouts ----------------------------------------------------------------------------------------------------------------


def test_whiteouts_that_hide_nothing_are_notes(tmp_path: Path) -> None:
    upper = {"file": WHITEOUT, "none": WHITEOUT, "dir": OPAQUE, "dir/g": WHITEOUT, "new": Dir(), "new/x": WHITEOUT}
    stack = damaged(tmp_path, upper, LOWER)
    outcomes = stack.check(repair=True)
    found = sorted(str(outcome.finding.path.relative_to(stack.upper)) for outcome in outcomes)
    assert found == ["dir/g", "new/x", "none"]
    assert {outcome.finding.severity for outcome in outcomes} == {Severity.NOTE}
    assert (stack.upper / "none").is_char_device()


def test_whiteout_over_a_lower_whiteout_hides_nothing(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {"file": WHITEOUT}, {"file": WHITEOUT}, LOWER)
    assert stack.found() == [("useless-whiteout", "upper/file")]


def test_without_the_lowers_a_whiteout_is_useless_only_in_an_opaque_directory(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {"x": WHITEOUT, "dir": OPAQUE, "dir/y": WHITEOUT})
    assert stack.found() == [("useless-whiteout", "upper/dir/y")]


def test_whiteout_in_an_attribute_must_be_announced(tmp_path: Path) -> None:
    whiteout = File(xattrs={f"{PREFIX}whiteout": b""})
    stack = damaged(tmp_path, {"dir": Dir(), "dir/g": whiteout}, LOWER)
    assert stack.repaired() == [("unannounced-whiteout", "upper/dir")]
    assert mark(stack.upper / "dir") == {"opaque": b"x"}
    assert stack.found() == []


# -- impure -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [".", "dir"])
def test_directory_with_a_copied_up_object_must_be_marked_impure(tmp_path: Path, parent: str) -> None:
    copied_up = File(b"data", xattrs={f"{PREFIX}origin": b""})
    stack = damaged(tmp_path, {"dir": Dir(), f"{parent}/a": copied_up, f"{parent}/b": copied_up}, LOWER)
    assert stack.repaired() == [("not-impure", str(Path("upper", parent)))]
    assert mark(stack.upper / parent) == {"impure": b"y"}
