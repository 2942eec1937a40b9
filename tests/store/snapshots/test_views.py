"""What drivers show and what they commit, with the kernel's OverlayFS as the oracle: the same layers, the same tree."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviour.tree import Snapshot, differences
from tests.store.snapshots.conftest import Bench
from tests.store.snapshots.made_layers import again, base, patch
from unionfs.store.digest import Digest


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "oracle", "overlay")
    yield bench
    bench.database.close()


def comparable(snapshot: Snapshot) -> Snapshot:
    """Without the link count: OverlayFS shows that of the real file, names that are hidden by upper layers included."""
    return Snapshot({path: dataclasses.replace(record, nlink=None) for path, record in snapshot.records.items()})


@pytest.mark.parametrize("builds", [(base,), (base, patch), (base, patch, again), (again, base)], ids=len)
def test_view_is_the_one_of_the_kernel(bench: Bench, oracle: Bench, builds: tuple[Callable[[Path], None], ...]) -> None:
    clean(bench, oracle, builds)
    assert differences(comparable(oracle.seen("look")), comparable(bench.seen("look"))) == []


def test_whiteout_in_the_lowest_layer_is_no_device(bench: Bench) -> None:
    bench.snapshots.view("look", bench.image(patch))
    with bench.mounted("look") as target:
        # By name: the kernel lists it, since it trusts that there are none in a lowest layer.
        assert not (target / "etc/passwd").exists()
        assert not os.path.lexists(target / "data/hidden")


def clean(bench: Bench, oracle: Bench, builds: tuple[Callable[[Path], None], ...]) -> None:
    """The same layers in both stores: the times of what is not told otherwise are those of one making."""
    directories = []
    for number, build in enumerate(builds):
        made = bench.directory / f"made{number}"
        made.mkdir()
        build(made)
        directories.append(made)
    for each in (oracle, bench):
        ids = []
        for number, made in enumerate(directories):
            copy = each.directory / f"copied{number}"
            subprocess.run(["cp", "-a", made, copy], check=True)
            ids.append(each.adopt(copy))
        each.snapshots.view("look", each.snapshots.ensure_image(ids))
        each.snapshots.prepare("box", each.snapshots.ensure_image(ids))


# -- changes --------------------------------------------------------------------------------------------------------------


def edit(top: Path) -> None:
    (top / "etc/hostname").write_text("edited")
    with open(top / "etc/passwd", "a") as file:
        file.write(":more")


def remove(top: Path) -> None:
    (top / "data/kept").unlink()
    shutil.rmtree(top / "etc/conf.d")


def make_anew(top: Path) -> None:
    shutil.rmtree(top / "etc/conf.d")
    (top / "etc/conf.d").mkdir()
    (top / "etc/conf.d/only").touch()
    (top / "data/hidden").unlink()
    (top / "data/hidden").mkdir()
    (top / "data/hidden/inside").touch()
    shutil.rmtree(top / "data/deep")
    (top / "data/deep").write_text("a file now")


def move_directories(top: Path) -> None:
    # mv(1) as scripts use it: where rename(2) says EXDEV it copies.
    subprocess.run(["mv", top / "etc", top / "moved"], check=True)
    subprocess.run(["mv", top / "data/deep/er", top / "bin/er"], check=True)
    (top / "moved/hostname").write_text("moved and changed")


def link(top: Path) -> None:
    os.link(top / "etc/passwd", top / "etc/shadow")
    (top / "links/third").hardlink_to(top / "links/first")
    (top / "links/second").unlink()
    (top / "new").write_text("new")
    (top / "also-new").hardlink_to(top / "new")


def attributes(top: Path) -> None:
    os.setxattr(top / "etc", "user.note", b"directory")
    os.removexattr(top / "bin/su", "user.note")
    os.setxattr(top / "data/kept", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.chown(top / "data/hidden", 5, 6)
    (top / "data/hidden").chmod(0o4711)
    (top / "etc/conf.d").chmod(0o3770)
    os.utime(top / "data/sparse", ns=(5, 7))


def special_files(top: Path) -> None:
    os.mknod(top / "data/tty", stat.S_IFCHR | 0o620, os.makedev(5, 0))
    os.mknod(top / "data/disk", stat.S_IFBLK | 0o600, os.makedev(7, 9))
    os.mkfifo(top / "data/fifo")
    (top / "data/dangling").symlink_to("/nowhere/at/all")
    (top / "bin/null").unlink()
    with open(top / "data/holes", "wb") as file:
        file.truncate(1 << 22)
        file.seek(1 << 21)
        file.write(b"middle")


def nothing(top: Path) -> None:
    del top


CHANGES = [edit, remove, make_anew, move_directories, link, attributes, special_files, nothing]


@pytest.mark.parametrize("change", CHANGES)
def test_committed_changes_show_the_same_tree(bench: Bench, change: Callable[[Path], None]) -> None:
    bench.snapshots.prepare("box", bench.image(base, patch))
    bench.snapshots.commit("start", "box")  # an empty layer in between hides nothing
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        change(target)
        before = Snapshot.of(target)
    bench.snapshots.commit("result", "box")
    bench.snapshots.view("look", "result")
    assert differences(comparable(before), comparable(bench.seen("look"))) == []


@pytest.mark.parametrize("change", CHANGES)
def test_layer_of_a_commit_means_the_same_to_the_kernel(bench: Bench, change: Callable[[Path], None]) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        change(target)
        before = Snapshot.of(target)
    bench.snapshots.commit("result", "box")
    kernel = bench.with_driver("overlay")
    kernel.view("look", "result")
    assert differences(comparable(before), comparable(bench.seen("look", kernel))) == []


@pytest.mark.parametrize("change", CHANGES)
def test_committed_layer_has_nothing_of_its_union(bench: Bench, change: Callable[[Path], None]) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        change(target)
    bench.snapshots.commit("result", "box")
    ((diff_id,),) = bench.database.read("SELECT diff_id FROM snapshots WHERE name = 'result'")
    layer = Snapshot.of(bench.layers.path(Digest(diff_id)))
    marks = {name for record in layer.records.values() for name, _ in record.xattrs if name.startswith("trusted.overlay.")}
    assert marks <= {"trusted.overlay.opaque", "trusted.overlay.overlay.nested"}


def test_directory_of_a_layer_is_not_renamed_but_copied(bench: Bench) -> None:
    if bench.driver in ("copy", "btrfs"):
        return  # there nothing is below
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target, pytest.raises(OSError, match="cross-device") as caught:
        (target / "etc").rename(target / "moved")
    assert caught.value.errno == errno.EXDEV


def test_commit_of_one_file_is_a_layer_of_one_file(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        (target / "etc/new").touch()
    bench.snapshots.commit("result", "box")
    ((diff_id,),) = bench.database.read("SELECT diff_id FROM snapshots WHERE name = 'result'")
    assert set(Snapshot.of(bench.layers.path(Digest(diff_id))).records) == {b".", b"etc", b"etc/new"}


def test_change_that_leaves_size_and_time_as_they_were_is_committed(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        status = (target / "etc/passwd").stat()
        (target / "etc/passwd").write_text("toor")
        os.utime(target / "etc/passwd", ns=(status.st_atime_ns, status.st_mtime_ns))
    bench.snapshots.commit("result", "box")
    bench.snapshots.view("look", "result")
    with bench.mounted("look") as target:
        assert (target / "etc/passwd").read_text() == "toor"


def test_names_that_became_one_file_are_committed_as_one(bench: Bench) -> None:
    def twins(layer: Path) -> None:
        for name in ("a", "b"):
            (layer / name).write_text("same")
            os.utime(layer / name, ns=(9, 9))

    bench.snapshots.prepare("box", bench.image(twins))
    with bench.mounted("box") as target:
        (target / "b").unlink()
        (target / "b").hardlink_to(target / "a")
    bench.snapshots.commit("result", "box")
    bench.snapshots.prepare("next", "result")
    with bench.mounted("next") as target:
        assert (target / "a").stat().st_ino == (target / "b").stat().st_ino


def test_snapshots_of_one_driver_are_parents_for_another(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        move_directories(target)
        before = Snapshot.of(target)
    bench.snapshots.commit("result", "box")
    for driver in ("union", "overlay", "copy"):
        other = bench.with_driver(driver)
        other.view(f"look-{driver}", "result")
        assert differences(comparable(before), comparable(bench.seen(f"look-{driver}"))) == []


def test_a_hundred_layers_are_one_tree(bench: Bench) -> None:
    def numbered(number: int) -> Callable[[Path], None]:
        return lambda layer: (layer / f"file{number}").touch()

    bench.snapshots.prepare("box", bench.image(*map(numbered, range(100))))
    with bench.mounted("box") as target:
        assert len(list(target.iterdir())) == 100
        (target / "file7").unlink()
    bench.snapshots.commit("result", "box")
    bench.snapshots.view("look", "result")
    with bench.mounted("look") as target:
        assert len(list(target.iterdir())) == 99
