"""What `Layers.verify` finds besides contents: everything that an unpacked file is."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.tars import directory, entry, hard_link, stream, symlink, tar_of, xattrs
from unionfs.store.errors import CorruptError
from unionfs.store.layers import Layer
from unionfs.store.skipped import Skipped, save_skipped
from unionfs.store.store import Store

ALL_KINDS = tar_of(
    directory("d", mtime=5),
    entry("d/f", b"content", uid=3, gid=4, mode=0o4755, mtime=7, pax_headers=xattrs(user__a=b"1")),
    hard_link("d/g", "d/f"),
    symlink("s", "d/f"),
    entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("implied/x", b""),
    entry("implied/y", b""),
    entry("d/.wh.gone"),
    entry("implied/.wh..wh..opq"),
    entry("d/replaced", b"first"),
    entry("d/replaced", b"second"),
)


@pytest.fixture
def store(store_root: Path) -> Iterator[Store]:
    with Store(store_root) as opened:
        yield opened


@pytest.fixture
def layer(store: Store) -> Layer:
    return store.layers.add_from_tar(stream(ALL_KINDS))


def problem_of(store: Store, layer: Layer) -> str:
    with pytest.raises(CorruptError) as damaged:
        store.layers.verify(layer.diff_id)
    assert os.listdir(store.staging) == []
    return str(damaged.value)


def test_sound_layer_is_ok_whatever_is_in_it(store: Store, layer: Layer) -> None:
    store.layers.verify(layer.diff_id)
    assert os.listdir(store.staging) == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda top: os.chown(top / "d/f", 3, 5), r"'d/f': mode is .*; 'd/f': owner is 3:5, was 3:4"),
        (lambda top: os.chmod(top / "d/f", 0o700), "'d/f': mode is 0700, was 4755"),
        (lambda top: os.chmod(top / "d", 0o700), "'d': mode is 0700, was 0755"),
        (lambda top: os.utime(top / "d/f", (8, 8)), r"'d/f': time of modification is 8.0, was 7.0"),
        (lambda top: os.setxattr(top / "d/f", "user.a", b"2"), "'d/f': attribute user.a is b'2', was b'1'"),
        (lambda top: os.setxattr(top / "d/f", "user.b", b"2"), "'d/f': attribute user.b is b'2', was None"),
        (lambda top: os.removexattr(top / "implied", "trusted.overlay.opaque"), "'implied': attribute opaque is None, was b'y'"),
        (lambda top: replace(top / "s", lambda path: path.symlink_to("d/g")), "'s': target is b'd/g', was b'd/f'"),
        (lambda top: replace(top / "s", Path.touch), "'s': type is a file, was a symbolic link"),
        (
            lambda top: replace(top / "null", lambda path: os.mknod(path, 0o20644, os.makedev(1, 5))),
            "'null': device is 1:5, was 1:3",
        ),
        (lambda top: replace(top / "d/gone", Path.touch), "'d/gone': type is a file, was a whiteout"),
        (lambda top: (top / "d/gone").unlink(), "'d/gone' is gone"),
        (lambda top: (top / "implied/more").touch(), "'implied/more' is none of its files"),
        (lambda top: replace(top / "d/g", copy_of("f")), "'d/g' is no other name of the same file any more"),
        (lambda top: replace(top / "null", lambda path: os.mkfifo(path)), "'null': type is a fifo, was a character device"),
        (
            lambda top: replace(top / "implied/x", link_to(top / "implied/y")),
            "'implied/y' is another name of a file that it was not",
        ),
        (lambda top: write(top / "d/replaced", b"SECOND"), "the digest of its contents is sha256:"),
        (lambda top: write(top / "d/replaced", b"longer than it was"), "a file of the layer has not its 6 bytes"),
        (lambda top: (top / "d/replaced").unlink(), "d/replaced: a file of the layer is gone"),
    ],
)
def test_what_was_changed_is_named(store: Store, layer: Layer, damage: Callable[[Path], object], problem: str) -> None:
    damage(layer.path)
    assert re.search(problem, problem_of(store, layer))


def test_layer_whose_directory_or_recipe_is_gone_is_damaged(store: Store, layer: Layer) -> None:
    store.layers.recipe(layer.diff_id).rename(store.root / "recipe")
    assert "recipe: the recipe of a layer is gone" in problem_of(store, layer)
    layer.path.rename(store.root / "diff")
    assert f"its directory {layer.path} is gone" in problem_of(store, layer)


def test_only_the_first_of_many_differences_are_named(store: Store, layer: Layer) -> None:
    for number in range(9):
        (layer.path / f"implied/{number}").touch()
    assert "'implied/4' is none of its files; and 4 more" in problem_of(store, layer)


def test_marks_and_sockets_of_a_layer_that_was_an_upper_are_no_damage(store: Store, layer: Layer) -> None:
    os.setxattr(layer.path / "d/f", "trusted.overlay.origin", b"handle")
    os.setxattr(layer.path / "implied", "trusted.overlay.impure", b"y")
    os.mknod(layer.path / "implied/socket", 0o140600)
    store.layers.verify(layer.diff_id)


def test_what_the_import_of_a_user_left_out_is_no_damage(store: Store, layer: Layer) -> None:
    os.chown(layer.path / "d/f", 8, 8)
    (layer.path / "d/f").chmod(0o4755)
    assert "owner is 8:8" in problem_of(store, layer)
    save_skipped(layer.path.parent, Skipped(1, "d/f", ("owner",)))
    store.layers.verify(layer.diff_id)
    os.removexattr(layer.path / "d/f", "user.a")
    assert "attribute user.a is None" in problem_of(store, layer)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in place of ``path`` in a directory whose times stay."""
    st = os.stat(path.parent)
    path.unlink()
    make(path)
    os.utime(path.parent, ns=(st.st_atime_ns, st.st_mtime_ns))


def link_to(target: Path) -> Callable[[Path], object]:
    return lambda path: path.hardlink_to(target)


def copy_of(name: str) -> Callable[[Path], object]:
    return lambda path: subprocess.run(["cp", "-a", path.with_name(name), path], check=True)


def write(path: Path, content: bytes) -> None:
    st = os.stat(path)
    path.write_bytes(content)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
