"""The forms of whiteouts: which one is chosen, what lies on disk, and how one form becomes another."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mounts import KERNEL
from tests.overlay.client import Client, build, stack
from unionfs.linux.mount import mount, umount
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options, Stack, Union
from unionfs.overlay.options import WhiteoutForm

FORMS: tuple[WhiteoutForm, ...] = ("dev", "xattr", "wh")
USER = Options(userxattr=True)


def on_disk(directory: Path) -> dict[str, str]:
    """What an upper directory holds: names, and for whiteouts in their place their form."""
    return {path.name: _kind(path) for path in directory.iterdir()}


def _kind(path: Path) -> str:
    status = path.lstat()
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return "dev"
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    return "xattr" if {"trusted.overlay.whiteout", "user.overlay.whiteout"} & set(os.listxattr(path)) else "file"


def forbid(monkeypatch: pytest.MonkeyPatch, function: str, error: int) -> None:
    """Let a function of `os` fail as it does where it is not permitted or there is no such thing."""

    def forbidden(*_args: object, **_options: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, function, forbidden)


def remove_all(layers: Stack, options: Options) -> None:
    client = Client(Union(layers, options))
    client.unlink("d/f")
    client.unlink("d/g")
    client.unlink("e/f")
    client.rmdir("e")
    client.union.close()


LOWER: dict[str, bytes | None] = {"d/f": b"1", "d/g": b"2", "d/h": b"3", "e/f": b"4"}


def test_device_is_the_first_choice(tmp_path: Path) -> None:
    remove_all(stack(tmp_path, LOWER), Options())
    assert on_disk(tmp_path / "upper/d") == {"f": "dev", "g": "dev"}
    assert on_disk(tmp_path / "upper") == {"d": "directory", "e": "dev"}


@pytest.mark.parametrize(("options", "prefix"), [(Options(), "trusted"), (USER, "user")], ids=["trusted", "user"])
@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_devices_whiteouts_are_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Options, prefix: str, error: int
) -> None:
    forbid(monkeypatch, "mknod", error)
    remove_all(stack(tmp_path, LOWER), options)
    assert on_disk(tmp_path / "upper/d") == {"f": "xattr", "g": "xattr"}
    assert (tmp_path / "upper/d/f").samefile(tmp_path / "upper/d/g")
    for directory in (tmp_path / "upper", tmp_path / "upper/d"):
        assert os.getxattr(directory, f"{prefix}.overlay.opaque") == b"x"


def test_without_devices_and_attributes_whiteouts_stand_beside_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forbid(monkeypatch, "mknod", errno.EPERM)
    forbid(monkeypatch, "setxattr", errno.EOPNOTSUPP)
    layers = stack(tmp_path, LOWER)
    with caplog.at_level(logging.WARNING, "unionfs.overlay"):
        remove_all(layers, Options())
    assert on_disk(tmp_path / "upper/d") == {".wh.f": "file", ".wh.g": "file"}
    assert on_disk(tmp_path / "upper") == {"d": "directory", ".wh.e": "file"}
    assert len(caplog.records) == 3
    assert all(record.getMessage().startswith(str(tmp_path / "upper")) for record in caplog.records)
    client = Client(Union(layers))
    assert client.names("") == [b"d"]
    client.mkdir("e")
    with pytest.raises(OSError, match="cross-device"):
        client.rename("d", "moved")
    client.rmdir("e")
    client.mkdir("e")
    client.union.close()
    assert on_disk(tmp_path / "upper") == {"d": "directory", "e": "directory"}
    assert on_disk(tmp_path / "upper/e") == {".wh..wh..opq": "file"}


def test_filesystem_that_holds_no_attributes_holds_an_upper(tmp_path: Path) -> None:
    mount(b"none", os.fsencode(tmp_path), b"ramfs", 0, b"")
    try:
        layers = stack(tmp_path, LOWER)
        client = Client(Union(layers))
        client.unlink("e/f")
        client.rmdir("e")
        client.mkdir("e")
        client.mkdir("made")
        client.rename("made", "e")
        client.unlink("d/f")
        with pytest.raises(OSError, match="cross-device"):
            client.rename("d", "moved")
        client.union.close()
        assert on_disk(tmp_path / "upper/e") == {".wh..wh..opq": "file"}
        assert on_disk(tmp_path / "upper/d") == {"f": "dev"}
        client = Client(Union(layers))
        assert client.names("e") == []
        assert set(client.names("d")) == {b"g", b"h"}
        client.union.close()
    finally:
        umount(os.fsencode(tmp_path), 0)


def test_what_the_upper_allows_is_not_talked_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "unionfs.overlay"):
        Union(stack(tmp_path, LOWER)).close()
    assert caplog.records == []


def test_form_that_was_asked_for_and_is_not_possible_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "mknod", errno.EPERM)
    with pytest.raises(OSError, match="whiteout=dev is not possible"):
        Union(stack(tmp_path, LOWER), Options(whiteout="dev"))


def test_error_that_says_nothing_about_whiteouts_ends_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "mknod", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        Union(stack(tmp_path, LOWER))


@pytest.mark.parametrize("later", FORMS)
@pytest.mark.parametrize("earlier", FORMS)
def test_whiteouts_of_another_form_are_rewritten_when_their_directory_is_read(
    tmp_path: Path, earlier: WhiteoutForm, later: WhiteoutForm
) -> None:
    layers = stack(tmp_path, LOWER)
    remove_all(layers, Options(whiteout=earlier))
    client = Client(Union(layers, Options(whiteout=later)))
    assert client.names("") == [b"d"]
    assert client.names("d") == [b"h"]
    # A device also does where whiteouts are attributes.
    form = "dev" if (earlier, later) == ("dev", "xattr") else later
    expected = {".wh.f": "file", ".wh.g": "file"} if form == "wh" else {"f": form, "g": form}
    assert on_disk(tmp_path / "upper/d") == expected
    client.write("d/f", b"new")
    client.mkdir("d/g")
    client.union.close()
    assert on_disk(tmp_path / "upper/d") == {"f": "file", "g": "directory"}


def make_file(client: Client) -> None:
    client.write("d/f", b"new")


def make_directory(client: Client) -> None:
    client.mkdir("d/f")


def move_file(client: Client) -> None:
    client.write("made", b"new")
    client.rename("made", "d/f")


def move_lower_file(client: Client) -> None:
    client.rename("d/h", "d/f")


def move_directory(client: Client) -> None:
    client.mkdir("made")
    client.rename("made", "d/f")


def link_file(client: Client) -> None:
    client.call(client.union.link, client.node("d/h"), *client.place("d/f"))


def exchange(client: Client) -> None:
    client.write("d/f", b"new")
    client.mkdir("made")
    client.rename("made", "d/f", RENAME_EXCHANGE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("make", "left"),
    [
        (make_file, b""),
        (make_directory, b""),
        (move_file, b""),
        (move_lower_file, b"h"),
        (move_directory, b""),
        (link_file, b""),
        (exchange, b""),
    ],
)
def test_name_that_was_hidden_is_shown_and_hidden_again(
    tmp_path: Path, form: WhiteoutForm, make: Callable[[Client], None], left: bytes
) -> None:
    options = Options(whiteout=form)
    layers = stack(tmp_path, LOWER)
    client = Client(Union(layers, options))
    client.unlink("d/f")
    make(client)
    shown = {b"f", b"g", b"h"} - {left}
    assert set(client.names("d")) == shown
    client.union.close()
    client = Client(Union(layers, options))
    assert set(client.names("d")) == shown
    is_directory = (tmp_path / "upper/d/f").is_dir()
    if is_directory:
        assert client.names("d/f") == []
        client.rmdir("d/f")
    else:
        client.unlink("d/f")
    assert set(client.names("d")) == shown - {b"f"}
    client.union.close()
    client = Client(Union(layers, options))
    assert set(client.names("d")) == shown - {b"f"}
    client.union.close()


@pytest.mark.parametrize("form", FORMS)
def test_directory_that_holds_only_whiteouts_is_removed_and_replaced(tmp_path: Path, form: WhiteoutForm) -> None:
    client = Client(Union(stack(tmp_path, LOWER), Options(whiteout=form)))
    client.unlink("e/f")
    client.mkdir("made")
    client.write("made/x", b"x")
    client.rename("made", "e")
    assert client.names("e") == [b"x"]
    client.unlink("e/x")
    client.rmdir("e")
    assert client.names("") == [b"d"]
    client.union.close()
    assert os.listdir(tmp_path / "work/work") == []


@pytest.mark.parametrize("form", FORMS)
def test_explain_tells_of_whiteouts_of_every_form(tmp_path: Path, form: WhiteoutForm) -> None:
    layers = stack(tmp_path, LOWER)
    remove_all(layers, Options(whiteout=form))
    for union in (Union(layers, Options(whiteout=form)), Union(Stack((tmp_path / "upper", *layers.lowers)))):
        explained = union.explain(b"d/f")
        union.close()
        assert explained["type"] == "whiteout"
        assert explained["real_path"] == str(tmp_path / "upper/d" / (".wh.f" if form == "wh" else "f"))
        assert [hidden["real_path"] for hidden in explained["hides"]] == [str(tmp_path / "lower0/d/f")]


def test_attribute_whiteouts_without_a_lower_go_before_their_directory_becomes_opaque(tmp_path: Path) -> None:
    layers = stack(tmp_path, LOWER)
    options = Options(whiteout="xattr")
    remove_all(layers, options)
    # The same upper over another lower: nothing is merged with d now, so that it may move.
    other = stack(tmp_path / "other", {"target/x": b""})
    layers = Stack(other.lowers, layers.upper, layers.work)
    client = Client(Union(layers, options))
    client.unlink("target/x")
    client.rename("d", "target")
    client.union.close()
    assert on_disk(tmp_path / "upper/target") == {}
    assert os.getxattr(tmp_path / "upper/target", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize(
    ("options", "words"), [(Options(whiteout="xattr"), ()), (Options(userxattr=True, whiteout="xattr"), ("userxattr",))]
)
def test_kernel_sees_the_same_tree_over_a_layer_with_attribute_whiteouts(
    tmp_path: Path, options: Options, words: tuple[str, ...]
) -> None:
    layers = stack(tmp_path, LOWER)
    remove_all(layers, options)
    assert layers.upper is not None
    merged = tmp_path / "merged"
    merged.mkdir()
    KERNEL.mount([layers.upper, *layers.lowers], None, None, merged, words)
    try:
        assert os.listdir(merged) == ["d"]
        assert os.listdir(merged / "d") == ["h"]
        assert not (merged / "d/f").exists()
    finally:
        KERNEL.umount(merged)
    # As an upper it is looked up alike; the listing of its directories is another matter (docs/overlay.md).
    KERNEL.mount(layers.lowers, layers.upper, layers.work, merged, words)
    try:
        assert not (merged / "e").exists()
        assert not (merged / "d/f").exists()
        assert (merged / "d/h").read_bytes() == b"3"
    finally:
        KERNEL.umount(merged)


def test_directory_with_reserved_names_of_aufs_is_removed(tmp_path: Path) -> None:
    layers = stack(tmp_path, LOWER)
    (tmp_path / "upper/made").mkdir()
    (tmp_path / "upper/made/.wh..wh.aufs").touch()
    client = Client(Union(layers))
    client.rmdir("made")
    assert b"made" not in client.names("")
    client.union.close()


def test_read_only_union_heeds_the_whiteouts_of_aufs_in_its_upper_and_leaves_them(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"gone": b"", "kept": b"", "d/below": b"", "e/below": b""})
    upper = build(tmp_path / "upper", {".wh.gone": b"", "d/.wh..wh..opq": b"", "d/above": b"", "e/above": b"", ".wh.e": b""})
    before = sorted(upper.rglob("*"))
    client = Client(Union(replace(layers, read_only=True)))
    assert sorted(client.names("")) == [b"d", b"e", b"kept"]
    assert (client.names("d"), client.names("e")) == ([b"above"], [b"above"])
    client.union.close()
    assert sorted(upper.rglob("*")) == before
