"""Collecting: what killed processes left goes, whatever it is; nothing that anybody uses does; whatever runs beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.images.made_images import docker_archive
from tests.store.snapshots.killing import killed_at
from tests.store.tars import directory, entry, tar_of
from unionfs.linux.mount import umount
from unionfs.store.gc import Collected, collect
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
from unionfs.store.staging import staged
from unionfs.store.store import Store

BASE = tar_of(directory("etc"), entry("etc/file", b"base"))
KINDS = ("layers", "blobs", "snapshots", "staging")


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Snapshots without mounts."""
    monkeypatch.setenv("UNIONFS_DRIVER", "copy")
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture
def store(store_root: Path) -> Iterator[Store]:
    with Store(store_root) as opened:
        yield opened


def gc(store: Store) -> Collected:
    return collect(store, store.snapshots)


def source(tmp_path: Path, number: int) -> Path:
    """An image of two layers, the lower one the same for all."""
    return docker_archive(tmp_path / f"{number}.tar", BASE, tar_of(entry(f"file{number}", b"x" * number)), names=())


def add(store: Store, archive: Path, name: str) -> None:
    import_image(store, archive, parse_reference(name))


def use(store: Store, name: str, key: str) -> None:
    """A snapshot over an image."""
    store.snapshots.prepare(key, store.snapshots.ensure_image(store.images.find(name).layers))


def on_disk(store: Store) -> dict[str, set[str]]:
    return {kind: set(os.listdir(store.root / kind)) if (store.root / kind).exists() else set() for kind in KINDS}


def known(store: Store) -> dict[str, set[str]]:
    """What is on the disk if nothing is left over."""
    rows = store.database.read("SELECT id FROM snapshots WHERE kind != 'committed'")
    return {
        "layers": {layer.diff_id.hex for layer in store.layers.all()},
        "blobs": {image.id.hex for image in store.images.all()},
        "snapshots": {str(number) for (number,) in rows},
        "staging": set(),
    }


def assert_sound(store: Store) -> None:
    """Everything that is known is there, and as it was."""
    for image in store.images.all():
        assert tuple(image.config.diff_ids) == image.layers
        for layer in image.layers:
            store.layers.verify(layer)
    for info in store.snapshots.walk():
        store.snapshots.usage(info.name)
    assert store.database.read("PRAGMA foreign_key_check") == []
    assert store.database.read("PRAGMA integrity_check") == [("ok",)]


def in_child(act: Callable[[], object]) -> int:
    """The id of a process that does it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_left_overs_of_each_kind_go_and_what_is_used_stays(store: Store, tmp_path: Path) -> None:
    add(store, source(tmp_path, 1), "used")
    use(store, "used", "box")
    before = on_disk(store)
    (store.staging / "1-0-dead/deep").mkdir(parents=True)
    (store.staging / "tmpfile").touch()
    (store.root / "layers" / ("0" * 64) / "diff").mkdir(parents=True)
    (store.root / "blobs" / ("1" * 64)).touch()
    (store.root / "snapshots/77/tree").mkdir(parents=True)
    add(store, source(tmp_path, 2), "gone")
    use(store, "gone", "other")
    store.snapshots.remove("other")
    store.images.remove("gone")
    collected = gc(store)
    assert collected.staging == ("1-0-dead", "tmpfile")
    assert collected.snapshots == (77,)
    assert len(collected.layers) == 1
    assert collected.freed == 2
    assert on_disk(store) == before == known(store)
    assert gc(store) == Collected((), (), (), (), 0, is_complete=True)
    assert_sound(store)


def test_layers_of_a_snapshot_stay_when_their_image_has_gone(store: Store, tmp_path: Path) -> None:
    add(store, source(tmp_path, 1), "gone")
    use(store, "gone", "box")
    store.images.remove("gone", force=True)
    assert gc(store).layers == ()
    assert_sound(store)
    store.snapshots.remove("box")
    assert len(gc(store).layers) == 2
    assert on_disk(store) == {kind: set() for kind in KINDS}


def test_what_is_mounted_in_staging_is_not_emptied(store: Store, tmp_path: Path) -> None:
    add(store, source(tmp_path, 1), "used")
    use(store, "used", "box")
    place = store.staging / "1-0-mount"
    place.mkdir()
    store.snapshots.mount("box", place)
    try:
        assert gc(store).staging == ()
        assert (place / "etc/file").read_bytes() == b"base"
    finally:
        umount(os.fsencode(place), 0)
    assert gc(store).staging == ("1-0-mount",)


def test_process_that_is_forked_meanwhile_holds_nothing(store: Store) -> None:
    read, write = os.pipe()
    told, tell = os.pipe()

    def wait_for_the_end() -> None:
        os.close(write)
        os.write(tell, b"begun")
        os.read(read, 1)

    with staged(store.root) as held:
        pid = in_child(wait_for_the_end)
        os.read(told, 1)  # it closes what it holds of ours when it begins to run
        left = held.rename(store.staging / "1-0-dead")
    os.close(told)
    os.close(tell)
    os.close(read)
    try:
        assert gc(store).is_complete
        assert not left.exists()
    finally:
        os.close(write)
        assert ended(pid) == 0


def test_killed_import_is_nothing_or_an_image_and_gc_takes_the_rest(store: Store, tmp_path: Path) -> None:
    archive = source(tmp_path, 1)

    def act() -> None:
        with Store(store.root) as own:
            add(own, archive, "made")

    for point in range(0, 10_000, 3):
        is_killed = killed_at(point, act)
        assert_sound(store)
        assert gc(store).is_complete
        assert on_disk(store) == known(store)
        if store.images.all():
            break
        assert is_killed
        assert store.layers.all() == []
    assert point > 30


def test_killed_gc_takes_nothing_that_is_used_and_the_next_one_ends_it(store: Store, tmp_path: Path) -> None:
    add(store, source(tmp_path, 1), "used")
    use(store, "used", "box")
    wanted = on_disk(store)
    point = 0
    is_killed = True
    while is_killed:
        add(store, source(tmp_path, 2), "gone")
        use(store, "gone", "other")
        store.images.remove("gone")
        store.snapshots.remove("other")
        (store.root / "snapshots/77/tree").mkdir(parents=True, exist_ok=True)
        is_killed = killed_at(point, lambda: _gc_of_its_own(store.root))
        assert_sound(store)
        point += 5
    assert point > 50
    gc(store)
    assert on_disk(store) == wanted == known(store)


def test_killed_gc_leaves_no_known_layer_without_its_files(store: Store, tmp_path: Path) -> None:
    """The next import of such a layer would take it for one that is there."""
    archive = source(tmp_path, 1)
    point = 0
    is_killed = True
    while is_killed:
        add(store, archive, "gone")
        store.images.remove("gone")
        is_killed = killed_at(point, lambda: _gc_of_its_own(store.root))
        for layer in store.layers.all():
            store.layers.verify(layer.diff_id)
        point += 2
    assert point > 30


def _gc_of_its_own(root: Path) -> None:
    with Store(root) as own:
        gc(own)


def test_import_remove_and_gc_at_once_with_kills_of_each(store: Store, tmp_path: Path) -> None:
    archives = [source(tmp_path, number) for number in range(1, 4)]
    add(store, source(tmp_path, 9), "kept")
    use(store, "kept", "box")

    def add_and_remove(number: int, turns: int) -> None:
        with Store(store.root) as own:
            for _ in range(turns):
                add(own, archives[number], f"image{number}")
                layers = own.images.find(f"image{number}").layers
                own.snapshots.prepare(f"box{number}", own.snapshots.ensure_image(layers))
                own.snapshots.remove(f"box{number}")
                for layer in layers:
                    own.layers.verify(layer)
                own.images.remove(f"image{number}")

    def collect_often() -> None:
        with Store(store.root) as own:
            for _ in range(100):
                gc(own)

    workers = [in_child(lambda number=number: add_and_remove(number, 25)) for number in range(2)]  # type: ignore[misc]
    collectors = [in_child(collect_often) for _ in range(2)]
    for number in range(25):
        # The third worker never comes to its end.
        killed_at(9 * number, lambda: add_and_remove(2, 1))
        killed_at(12 * number, collect_often)
        with Store(store.root) as own:
            for key in {info.name for info in own.snapshots.walk()} & {"box2"}:
                own.snapshots.remove(key)
    assert [ended(pid) for pid in (*workers, *collectors)] == [0, 0, 0, 0]
    assert_sound(store)
    for image in store.images.all():
        if "kept" not in {name.name for name in image.names}:
            store.images.remove(image.id, force=True)
    gc(store)
    assert on_disk(store) == known(store)
    assert [str(name) for image in store.images.all() for name in image.names] == ["kept:latest"]
    assert (store.root / "snapshots" / known(store)["snapshots"].pop() / "tree/etc/file").read_bytes() == b"base"


def test_importer_that_is_killed_outright_stops_no_collector(store: Store, tmp_path: Path) -> None:
    with staged(store.root):
        pid = in_child(signal.pause)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    assert gc(store).is_complete
    assert list(tmp_path.glob("store/staging/*")) == []
