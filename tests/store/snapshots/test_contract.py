"""The contract, the same for every driver."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.behaviour.tree import differences
from tests.store.snapshots.conftest import Bench
from tests.store.snapshots.made_layers import base, patch
from unionfs.store.digest import Digest
from unionfs.store.errors import ExistsError, InUseError, NotFoundError, StoreError
from unionfs.store.snapshotter import Kind


def written(bench: Bench, key: str, parent: str | None, name: str = "file") -> None:
    """An active snapshot with a file of its own."""
    bench.snapshots.prepare(key, parent)
    with bench.mounted(key) as target:
        (target / name).write_text(key)


def test_prepared_snapshot_shows_the_layers_and_takes_changes(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base, patch))
    with bench.mounted("box") as target:
        assert (target / "etc/hostname").read_text() == "patched"
        (target / "etc/hostname").write_text("mine")
    with bench.mounted("box") as target:
        assert (target / "etc/hostname").read_text() == "mine"


def test_root_of_a_snapshot_looks_like_that_of_the_topmost_layer(bench: Bench) -> None:
    bench.snapshots.prepare("box", bench.image(base))
    with bench.mounted("box") as target:
        status = target.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o751, 3, 4)


def test_snapshots_of_one_parent_do_not_see_each_other_s_changes(bench: Bench) -> None:
    image = bench.image(base)
    for key in ("one", "other"):
        bench.snapshots.prepare(key, image)
    with bench.mounted("one") as one, bench.mounted("other") as other:
        (one / "etc/passwd").write_text("one")
        (other / "data/kept").unlink()
        (one / "only-here").touch()
        assert (other / "etc/passwd").read_text() == "root"
        assert (one / "data/kept").exists()
        assert not (other / "only-here").exists()
    bench.snapshots.view("image", image)
    with bench.mounted("image") as target:
        assert (target / "etc/passwd").read_text() == "root"


def test_snapshot_without_a_parent_begins_empty(bench: Bench) -> None:
    written(bench, "scratch", None)
    bench.snapshots.commit("image", "scratch")
    bench.snapshots.view("look", "image")
    with bench.mounted("look") as target:
        assert [path.name for path in target.iterdir()] == ["file"]


def test_view_is_read_only(bench: Bench) -> None:
    bench.snapshots.view("look", bench.image(base))
    with bench.mounted("look") as target, pytest.raises(OSError, match="Read-only") as caught:
        (target / "etc/hostname").write_text("no")
    assert caught.value.errno == errno.EROFS


def test_view_of_nothing_is_empty(bench: Bench) -> None:
    bench.snapshots.view("look", None)
    with bench.mounted("look") as target:
        assert list(target.iterdir()) == []


def test_committed_snapshot_shows_what_the_active_one_did(bench: Bench) -> None:
    image = bench.image(base)
    written(bench, "box", image)
    before = bench.seen("box")
    bench.snapshots.commit("result", "box")
    assert bench.snapshots.stat("result").kind is Kind.COMMITTED
    assert bench.snapshots.stat("result").parent == image
    assert bench.directories() == []
    bench.snapshots.view("look", "result")
    assert differences(before, bench.seen("look")) == []


def test_commit_keeps_labels_and_drops_the_key(bench: Bench) -> None:
    bench.snapshots.prepare("box", None, labels={"of": "test"})
    bench.snapshots.commit("result", "box")
    assert bench.snapshots.stat("result").labels == {"of": "test"}
    with pytest.raises(NotFoundError, match="box: no such snapshot"):
        bench.snapshots.stat("box")


def test_key_can_be_the_name_of_what_it_becomes(bench: Bench) -> None:
    bench.snapshots.prepare("box", None)
    bench.snapshots.commit("box", "box")
    assert bench.snapshots.stat("box").kind is Kind.COMMITTED


def test_same_change_over_different_parents_is_one_layer(bench: Bench) -> None:
    for number, parent in enumerate((None, bench.image(base))):
        bench.snapshots.prepare(f"box{number}", parent)
        with bench.mounted(f"box{number}") as target:
            (target / "added").mkdir()
            (target / "added/file").write_text("same")
            for path in (target / "added/file", target / "added", target):
                path.chmod(0o755)
                os.chown(path, 0, 0)
                os.utime(path, ns=(10**18, 10**18))
        bench.snapshots.commit(f"result{number}", f"box{number}")
    ids = bench.database.read("SELECT DISTINCT diff_id FROM snapshots WHERE name LIKE 'result%'")
    assert len(ids) == 1


def test_three_generations_show_the_changes_of_all(bench: Bench) -> None:
    parent: str | None = bench.image(base)
    for number in range(3):
        written(bench, f"box{number}", parent, f"file{number}")
        bench.snapshots.commit(f"step{number}", f"box{number}")
        parent = f"step{number}"
    bench.snapshots.view("look", parent)
    with bench.mounted("look") as target:
        assert {path.name for path in target.glob("file*")} == {"file0", "file1", "file2"}
        assert (target / "etc/passwd").exists()


def test_ensure_image_makes_each_chain_once(bench: Bench) -> None:
    layers = [bench.layer(base), bench.layer(patch)]
    first = bench.snapshots.ensure_image(layers)
    assert bench.snapshots.ensure_image(layers) == first
    assert bench.names() == [layers[0], first]
    assert bench.snapshots.stat(first).parent == layers[0]
    assert bench.directories() == []


def test_ensure_image_with_a_layer_that_is_not_there_makes_nothing(bench: Bench) -> None:
    missing = Digest("sha256:" + "0" * 64)
    with pytest.raises(NotFoundError, match=r"sha256:0+: no such layer"):
        bench.snapshots.ensure_image([bench.layer(base), missing])
    assert bench.names() == []


def test_layer_that_stands_twice_in_an_image_counts_once(bench: Bench) -> None:
    one, other = bench.layer(base), bench.layer(patch)
    bench.snapshots.view("look", bench.snapshots.ensure_image([other, one, other]))
    bench.snapshots.view("same", bench.snapshots.ensure_image([one, other]))
    assert differences(bench.seen("look"), bench.seen("same")) == []


def test_walk_names_all_with_parents_first(bench: Bench) -> None:
    image = bench.image(base)
    bench.snapshots.prepare("box", image)
    bench.snapshots.view("look", image)
    assert [(info.name, info.kind, info.parent) for info in bench.snapshots.walk()] == [
        (image, Kind.COMMITTED, None),
        ("box", Kind.ACTIVE, image),
        ("look", Kind.VIEW, image),
    ]


# -- what is refused ------------------------------------------------------------------------------------------------------


def test_name_that_is_taken_is_refused_and_nothing_is_left(bench: Bench) -> None:
    bench.snapshots.prepare("box", None)
    before = bench.directories()
    for make in (bench.snapshots.prepare, bench.snapshots.view):
        with pytest.raises(ExistsError, match="box: there is a snapshot of that name already"):
            make("box", None)
    bench.snapshots.prepare("other", None)
    bench.snapshots.remove("other")
    bench.snapshots.prepare("result", None)
    with pytest.raises(ExistsError, match="result"):
        bench.snapshots.commit("result", "box")
    bench.snapshots.remove("result")
    assert bench.directories() == before


@pytest.mark.parametrize("name", ["", "a\nb", "\x00"])
def test_name_that_cannot_be_shown_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(StoreError, match="not a name of a snapshot"):
        bench.snapshots.prepare(name, None)


def test_parent_must_be_there_and_committed(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="nobody: no such snapshot"):
        bench.snapshots.prepare("box", "nobody")
    bench.snapshots.prepare("active", None)
    with pytest.raises(StoreError, match="active: is not committed but active"):
        bench.snapshots.prepare("box", "active")
    assert bench.names() == ["active"]


def test_view_and_committed_snapshot_cannot_be_committed(bench: Bench) -> None:
    bench.snapshots.view("look", None)
    with pytest.raises(StoreError, match="look: cannot be committed: it is a view"):
        bench.snapshots.commit("result", "look")
    image = bench.image(base)
    with pytest.raises(StoreError, match="is committed"):
        bench.snapshots.commit("result", image)
    with pytest.raises(StoreError, match="is committed and has nothing to mount"):
        bench.snapshots.mount(image, bench.target())


def test_mounted_snapshot_is_neither_removed_nor_committed_nor_mounted_again(bench: Bench) -> None:
    bench.snapshots.prepare("box", None)
    with bench.mounted("box") as target:
        for refused in (
            lambda: bench.snapshots.remove("box"),
            lambda: bench.snapshots.commit("result", "box"),
            lambda: bench.snapshots.mount("box", bench.target()),
        ):
            with pytest.raises(InUseError, match=f"box: mounted on {target}; unmount it first"):
                refused()
        (target / "file").write_text("still there")
    bench.snapshots.remove("box")
    assert bench.directories() == []


def test_mounted_view_is_not_removed(bench: Bench) -> None:
    bench.snapshots.view("look", bench.image(base))
    with (
        bench.mounted("look") as one,
        bench.mounted("look") as other,
        pytest.raises(InUseError, match=f"look: mounted on {other}, {one};"),
    ):
        bench.snapshots.remove("look")
    bench.snapshots.remove("look")


def test_snapshot_that_others_stand_on_is_not_removed(bench: Bench) -> None:
    image = bench.image(base)
    bench.snapshots.prepare("box", image)
    bench.snapshots.view("look", image)
    with pytest.raises(InUseError, match="in use by snapshot box, snapshot look; remove these first"):
        bench.snapshots.remove(image)
    bench.snapshots.remove("box")
    bench.snapshots.remove("look")
    bench.snapshots.remove(image)
    assert (bench.names(), bench.directories()) == ([], [])


def test_snapshot_of_a_container_is_not_removed(bench: Bench) -> None:
    bench.snapshots.prepare("box", None)
    with bench.database.transaction() as connection:
        connection.execute("INSERT INTO images VALUES ('sha256:1', 1.0)")
        connection.execute("INSERT INTO containers VALUES ('id', 'web', 'sha256:1', 'box', '{}', 1.0)")
    with pytest.raises(InUseError, match="in use by container web"):
        bench.snapshots.remove("box")
    with bench.mounted("box") as target:
        (target / "file").touch()


def test_unmounting_twice_is_once(bench: Bench) -> None:
    bench.snapshots.prepare("box", None)
    target = bench.target()
    bench.snapshots.mount("box", target)
    bench.snapshots.unmount(target)
    bench.snapshots.unmount(target)
    bench.snapshots.unmount("box")
    assert bench.snapshots.mounted_at("box") == []


def test_mount_on_what_is_no_directory_leaves_no_mount(bench: Bench, tmp_path: Path) -> None:
    bench.snapshots.prepare("box", None)
    with pytest.raises(Exception, match="nowhere"):
        bench.snapshots.mount("box", tmp_path / "nowhere")
    assert bench.snapshots.mounted_at("box") == []


def test_usage_counts_what_is_its_own(bench: Bench) -> None:
    image = bench.image(base)
    bench.snapshots.prepare("box", image)
    before = bench.snapshots.usage("box")
    with bench.mounted("box") as target:
        (target / "big").write_bytes(b"x" * (1 << 20))
        (target / "more").write_text("more")
    after = bench.snapshots.usage("box")
    assert after.inodes == before.inodes + 2
    assert 1 << 20 <= after.size - before.size < (1 << 20) + (1 << 16)
    bench.snapshots.commit("result", "box")
    assert (1 << 20) < bench.snapshots.usage("result").size < (1 << 20) + (1 << 16)
    assert bench.snapshots.usage("result").inodes == 3
