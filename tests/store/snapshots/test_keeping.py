"""What was written becomes a layer: of a snapshot that goes on, and without being copied more than once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.store.snapshots.conftest import Bench
from tests.store.snapshots.made_layers import base, patch
from unionfs.store.digest import Digest
from unionfs.store.drivers import Change
from unionfs.store.drivers.difference import changed_paths
from unionfs.store.errors import NotFoundError, StoreError
from unionfs.store.layers import Layers
from unionfs.store.leases import adding


def change(top: Path) -> None:
    (top / "etc/new").write_text("new")
    (top / "etc/passwd").unlink()


def kept(bench: Bench, key: str) -> Digest:
    with adding(bench.root):
        return bench.snapshots.keep_changes(key)


def test_kept_changes_are_a_sound_layer_and_the_snapshot_goes_on(bench: Bench) -> None:
    image = bench.image(base)
    bench.snapshots.prepare("box", image)
    with bench.mounted("box") as target:
        change(target)
        os.sync()
        layer = kept(bench, "box")
        (target / "etc/later").touch()
    bench.layers.verify(layer)
    found = {str(path.relative_to(bench.layers.path(layer))) for path in bench.layers.path(layer).rglob("*")}
    assert found == {"etc", "etc/new", "etc/passwd"}
    with bench.mounted("box") as target:
        assert (target / "etc/later").exists()
    assert [name for name in bench.directories() if name.startswith("staging/")] == []


def test_nothing_changed_is_the_layer_of_the_root_alone(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    layer = kept(bench, "box")
    bench.layers.verify(layer)
    assert os.listdir(bench.layers.path(layer)) == []
    assert kept(bench, "box") == layer


def test_changes_of_equal_content_are_one_layer(bench: Bench) -> None:
    image = bench.image(base, patch)
    layers = []
    for key in ("one", "other"):
        bench.snapshots.prepare(key, image)
        with bench.mounted(key) as target:
            (target / "etc/new").write_text("same")
            (target / "data/kept").unlink()
            for path in (target / "etc/new", target / "etc", target / "data", target):
                os.utime(path, ns=(10**18, 10**18))
        layers.append(kept(bench, key))
    assert layers[0] == layers[1]


def test_socket_is_in_no_layer(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target, socket.socket(socket.AF_UNIX) as listener:
        (target / "short").symlink_to(target)  # names of sockets are short
        fd = os.open(target, os.O_PATH)
        listener.bind(f"/proc/self/fd/{fd}/listener")
        os.close(fd)
    layer = kept(bench, "box")
    bench.layers.verify(layer)
    assert os.listdir(bench.layers.path(layer)) == ["short"]


def test_view_has_nothing_to_keep(bench: Bench) -> None:
    bench.snapshots.view("look", bench.image(base))
    with pytest.raises(StoreError, match="look: cannot be committed: it is a view"):
        kept(bench, "look")
    with pytest.raises(NotFoundError, match="nobody: no such snapshot"):
        kept(bench, "nobody")


@pytest.mark.parametrize("bench", ["union", "overlay"], indirect=True)
@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_upper_that_depends_on_its_layers_is_refused(bench: Bench, mark: str) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        change(target)
    upper = bench.snapshots.changes_dir("box")
    assert upper is not None
    os.setxattr(upper / "etc", f"trusted.overlay.{mark}", b"")
    with pytest.raises(StoreError, match=rf"depends on the layers below it \(attribute trusted.overlay.{mark}\); mount with"):
        kept(bench, "box")
    assert [name for name in bench.directories() if name.startswith("staging/")] == []


@pytest.mark.parametrize("bench", ["copy"], indirect=True)
def test_adopted_directory_is_moved_and_one_that_is_there_already_removed(bench: Bench, tmp_path: Path) -> None:
    numbers = []
    for name in ("one", "same"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "file").write_text("content")
        for path in (directory / "file", directory):
            os.utime(path, ns=(9, 9))
        numbers.append((directory / "file").stat().st_ino)
        layer = bench.adopt(directory)
        assert not directory.exists()
    assert (bench.layers.path(layer) / "file").stat().st_ino == numbers[0]
    assert isinstance(bench.layers, Layers)
    assert len(bench.layers.all()) == 1


# -- naming what was changed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bench", ["copy", "btrfs"], indirect=True)
def test_changes_of_a_whole_tree_are_found_by_comparing(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base, patch))
    assert bench.snapshots.changes("box") == []
    with bench.mounted("box") as target:
        change_all(target)
    assert [" ".join(each) for each in bench.snapshots.changes("box") or ()] == [
        "M /bin",
        "M /bin/su",
        "M /data",
        "M /data/deep",
        "A /data/deep/inside",
        "D /data/kept",
        "M /etc",
        "D /etc/conf.d",
        "M /etc/hostname",
        "A /new",
        "A /new/file",
    ]


def change_all(top: Path) -> None:
    (top / "etc/hostname").write_text("mine")
    (top / "etc/conf.d/four").unlink()
    (top / "etc/conf.d").rmdir()
    (top / "data/kept").unlink()
    (top / "data/deep").unlink()
    (top / "data/deep").mkdir()
    (top / "data/deep/inside").touch()
    (top / "bin/su").chmod(0o755)
    (top / "bin").chmod(0o700)
    (top / "new").mkdir()
    (top / "new/file").touch()


@pytest.mark.parametrize("bench", ["union", "overlay"], indirect=True)
def test_where_there_is_an_upper_it_tells(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    assert bench.snapshots.changes("box") is None
    assert bench.snapshots.changes_dir("box") is not None


def test_names_that_are_no_text_are_named(tmp_path: Path) -> None:
    lower, tree = tmp_path / "lower", tmp_path / "tree"
    for directory in (lower, tree):
        directory.mkdir()
    (Path(os.fsdecode(os.fsencode(tree) + b"/\xff"))).touch()
    assert changed_paths(tree, [lower]) == [Change("A", "/\udcff")]
