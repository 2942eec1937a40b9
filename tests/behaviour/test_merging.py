"""What the layers show together: merged directories, the first non-directory from above, and what hides what."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.mounts import OVERLAY_XATTRS

from .layers import FIFO, OPAQUE, WHITEOUT, Dir, File, Symlink
from .syscalls import fails_with
from .union import Union

layers = pytest.mark.layers


@layers({"a": b"A", "sub/b": b"B"})
def test_one_lower_shows_through(union: Union) -> None:
    assert union.names() == ["a", "sub"]
    assert (union.merged / "a").read_bytes() == b"A"
    assert (union.merged / "sub/b").read_bytes() == b"B"


@layers([{"d/one": b"1", "same": b"top"}, {"d/two": b"2", "same": b"bottom"}])
def test_directory_in_two_lowers_is_merged_and_the_top_file_wins(union: Union) -> None:
    assert union.names("d") == ["one", "two"]
    assert (union.merged / "same").read_bytes() == b"top"


@layers([{"d/e/1": b"1"}, {"d/e/2": b"2"}, {"d/e/3": b"3"}], upper={"d/e/0": b"0"})
def test_directory_in_three_lowers_and_upper_is_merged_at_every_depth(union: Union) -> None:
    assert union.names("d/e") == ["0", "1", "2", "3"]


@layers([{"d": Dir(mode=0o700, uid=11), "d/1": b""}, {"d": Dir(mode=0o755, uid=22), "d/2": b""}])
def test_merged_directory_has_the_attributes_of_the_topmost(union: Union) -> None:
    status = (union.merged / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, 11)


@layers([{"x": b"file"}, {"x/hidden": b""}])
def test_file_above_hides_directory_below(union: Union) -> None:
    assert (union.merged / "x").read_bytes() == b"file"
    with fails_with(errno.ENOTDIR):
        os.stat(union.merged / "x/hidden")


@layers([{"x/shown": b""}, {"x": b"file"}])
def test_directory_above_hides_file_below(union: Union) -> None:
    assert union.names("x") == ["shown"]


@layers([{"x/top": b""}, {"x": b"file"}, {"x/bottom": b""}])
def test_file_in_a_middle_layer_ends_the_merge(union: Union) -> None:
    assert union.names("x") == ["top"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(stat.S_IFLNK, marks=layers([{"x": Symlink("elsewhere")}, {"x/y": b""}]), id="symlink"),
        pytest.param(stat.S_IFIFO, marks=layers([{"x": FIFO}, {"x/y": b""}]), id="fifo"),
    ],
)
def test_other_kinds_above_hide_a_directory_below(union: Union, kind: int) -> None:
    assert stat.S_IFMT((union.merged / "x").lstat().st_mode) == kind


@layers({"gone": b"old", "kept": b""}, upper={"gone": WHITEOUT})
def test_whiteout_in_upper_hides_file(union: Union) -> None:
    assert union.names() == ["kept"]
    with fails_with(errno.ENOENT):
        os.lstat(union.merged / "gone")


@layers([{"d": WHITEOUT}, {"d/f": b""}])
def test_whiteout_in_lower_hides_directory_below(union: Union) -> None:
    assert union.names() == []
    with fails_with(errno.ENOENT):
        os.lstat(union.merged / "d/f")


@layers([{"d/f": b"back"}, {"d": WHITEOUT}, {"d/old": b""}])
def test_whiteout_in_a_middle_layer_hides_only_what_is_below(union: Union) -> None:
    assert union.names("d") == ["f"]


@layers([{"d/f": WHITEOUT}, {"d/f": b"2"}, {"d/f": b"3", "d/g": b""}])
def test_whiteout_inside_a_merged_lower_directory_hides_all_layers_below(union: Union) -> None:
    assert union.names("d") == ["g"]


@layers({"x": WHITEOUT})
def test_whiteout_over_nothing_names_nothing(union: Union) -> None:
    assert union.names() == union.deviates("stray-whiteouts", kernel=["x"], ours=[])
    with fails_with(errno.ENOENT):
        os.lstat(union.merged / "x")


@layers({"d/old": b""}, upper={"d": OPAQUE, "d/new": b""})
def test_opaque_directory_in_upper_hides_what_is_below(union: Union) -> None:
    assert union.names("d") == ["new"]
    with fails_with(errno.ENOENT):
        os.lstat(union.merged / "d/old")


@layers([{"d/1": b""}, {"d": OPAQUE, "d/2": b""}, {"d/3": b""}])
def test_opaque_directory_in_a_middle_layer_ends_the_merge_below_itself(union: Union) -> None:
    assert union.names("d") == ["1", "2"]


@layers([{"d/sub/1": b""}, {"d": OPAQUE}, {"d/sub/3": b""}])
def test_opaque_parent_hides_the_children_of_its_subdirectories_below(union: Union) -> None:
    assert union.names("d/sub") == ["1"]


@layers([{"d/1": b""}, {"d": Dir(xattrs={OVERLAY_XATTRS + "opaque": b"n"}), "d/2": b""}, {"d/3": b""}])
def test_opaque_mark_counts_only_with_the_value_y(union: Union) -> None:
    assert union.names("d") == ["1", "2", "3"]


XATTR_WHITEOUT = File(b"", xattrs={OVERLAY_XATTRS + "whiteout": b""})


@layers([{"d": Dir(xattrs={OVERLAY_XATTRS + "opaque": b"x"}), "d/gone": XATTR_WHITEOUT, "d/1": b""}, {"d/gone": b"", "d/2": b""}])
def test_xattr_whiteout_hides_file_below(union: Union) -> None:
    assert union.names("d") == ["1", "2"]
    with fails_with(errno.ENOENT):
        os.lstat(union.merged / "d/gone")


@layers(
    [
        {"d": Dir(xattrs={OVERLAY_XATTRS + "opaque": b"x"}), "d/f": File(b"data", xattrs={OVERLAY_XATTRS + "whiteout": b""})},
        {"d/f": b""},
    ]
)
def test_file_with_content_is_no_xattr_whiteout(union: Union) -> None:
    assert (union.merged / "d/f").read_bytes() == b"data"


@layers([{".wh.gone": b"", "1": b""}, {"gone": b"", "2": b""}])
def test_wh_name_in_lower_hides_file_below(union: Union) -> None:
    shown = union.deviates("wh-names", kernel=[".wh.gone", "1", "2", "gone"], ours=["1", "2"])
    assert union.names() == shown
    assert (union.merged / "gone").exists() == ("gone" in shown)
    assert (union.merged / ".wh.gone").exists() == (".wh.gone" in shown)


@layers([{"d/.wh..wh..opq": b"", "d/1": b""}, {"d/2": b""}])
def test_wh_opq_in_lower_makes_directory_opaque(union: Union) -> None:
    assert union.names("d") == union.deviates("wh-names", kernel=[".wh..wh..opq", "1", "2"], ours=["1"])
