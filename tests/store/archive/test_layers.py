"""Layers of a store: there once, whole or not at all, whatever happens to whoever adds them."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.snapshots.made_layers import base
from tests.store.tars import directory, entry, joined, stream, tar_of
from unionfs.linux.mount import mount
from unionfs.store.database import Database
from unionfs.store.digest import Digest
from unionfs.store.errors import CorruptError, NotFoundError, RefusedEntryError, StoreError
from unionfs.store.gc import collect
from unionfs.store.layers import Layers
from unionfs.store.recipe import reassemble
from unionfs.store.store import Store

TAR = tar_of(directory("d"), entry("d/f", b"content"), entry("d/f", b"replaced"))
DIFF_ID = Digest(f"sha256:{hashlib.sha256(TAR).hexdigest()}")
OTHER = Digest(f"sha256:{'0' * 64}")


@pytest.fixture
def store(store_root: Path) -> Iterator[Store]:
    with Store(store_root) as opened:
        yield opened


def is_clean(store: Store) -> bool:
    return not os.listdir(store.root / "staging") and os.listdir(store.root / "layers") == [
        layer.diff_id.hex for layer in store.layers.all()
    ]


def test_added_layer_is_known_by_its_diff_id_and_sound(store: Store) -> None:
    layer = store.layers.add_from_tar(stream(TAR), DIFF_ID)
    assert (layer.diff_id, layer.tar_size, layer.entries) == (DIFF_ID, len(TAR), 3)
    assert (layer.path / "d/f").read_bytes() == b"replaced"
    assert store.layers.get(DIFF_ID) == layer
    store.layers.verify(DIFF_ID)
    assert is_clean(store)


def test_layer_that_is_there_is_not_read_again(store: Store) -> None:
    first = store.layers.add_from_tar(stream(TAR))
    assert store.layers.add_from_tar(stream(b"not read"), DIFF_ID) == first


def test_digest_mismatch_names_both_and_keeps_nothing(store: Store) -> None:
    with pytest.raises(CorruptError, match=rf"{DIFF_ID}.*{OTHER}"):
        store.layers.add_from_tar(stream(TAR), OTHER)
    assert store.layers.all() == []
    assert is_clean(store)


def test_refused_archive_keeps_nothing(store: Store) -> None:
    with pytest.raises(RefusedEntryError):
        store.layers.add_from_tar(stream(tar_of(entry("f", b"1"), entry("../x", b"1"))))
    assert is_clean(store)


def test_full_disk_names_the_entry_and_gives_the_space_back(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount(b"tmpfs", os.fsencode(small), b"tmpfs", 0, b"size=2m")
    try:
        with Store(small) as store:
            free = os.statvfs(small).f_bfree
            with pytest.raises(StoreError, match=r"'big'.*No space left on device; make room"):
                store.layers.add_from_tar(stream(tar_of(entry("big", os.urandom(3 << 20)))))
            assert os.statvfs(small).f_bfree == free
            assert store.layers.all() == []
            assert is_clean(store)
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("damage", ["content", "size", "gone", "link"])
def test_verify_finds_a_changed_file(store: Store, damage: str) -> None:
    file = store.layers.add_from_tar(stream(TAR)).path / "d/f"
    if damage == "content":
        file.write_bytes(b"REPLACED")
    elif damage == "size":
        file.write_bytes(b"1")
    else:
        file.unlink()
        if damage == "link":
            file.symlink_to("/etc/passwd")
    with pytest.raises(CorruptError):
        store.layers.verify(DIFF_ID)


def test_verify_finds_a_damaged_recipe(store: Store) -> None:
    store.layers.add_from_tar(stream(TAR))
    recipe = store.layers.recipe(DIFF_ID)
    recipe.write_bytes(recipe.read_bytes()[:-8])
    with pytest.raises(CorruptError, match="recipe of a layer is damaged"):
        store.layers.verify(DIFF_ID)


def test_adopted_directory_is_a_layer_whose_tar_has_its_diff_id(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "made"
    directory.mkdir()
    base(directory)
    layer = store.layers.adopt(directory)
    tar = joined(reassemble(layer.path, store.layers.recipe(layer.diff_id)))
    assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == layer.diff_id
    assert (layer.path / "etc/hostname").exists()
    store.layers.verify(layer.diff_id)


def test_unused_layers_are_removed_and_used_ones_stay(store: Store) -> None:
    used = store.layers.add_from_tar(stream(TAR))
    unused = store.layers.add_from_tar(stream(tar_of(entry("g"))))
    with store.database.transaction() as connection:
        connection.execute("INSERT INTO images VALUES ('sha256:i', 1.0)")
        connection.execute("INSERT INTO image_layers VALUES ('sha256:i', 0, ?)", (used.diff_id,))
    assert [layer.diff_id for layer in store.layers.unused()] == [unused.diff_id]
    store.layers.remove_unused()
    assert store.layers.all() == [used]
    with pytest.raises(NotFoundError):
        store.layers.get(unused.diff_id)
    assert is_clean(store)


def test_two_that_add_one_layer_at_once_do_not_disturb_each_other(store: Store) -> None:
    both_inside = threading.Barrier(2)

    class Waiting(io.BytesIO):
        """Ends only when both have read all of it."""

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                both_inside.wait(30)
            return data

    def add() -> None:
        database = Database(store.root)
        found.append(Layers(store.root, database).add_from_tar(Waiting(TAR), DIFF_ID))
        database.close()

    found: list[object] = []
    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [store.layers.get(DIFF_ID)] * 2
    store.layers.verify(DIFF_ID)
    assert is_clean(store)


KILLED = """
import io, os, signal, sys
from pathlib import Path
import unionfs.store.layers as layers, unionfs.store.unpack as unpack
from unionfs.store.store import Store

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

point, root, tar = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).read_bytes()
if point == "reading":
    class Half(io.BytesIO):
        def read(self, size=-1):
            return super().read(size) if self.tell() < 2048 else die()
    stream = Half(tar)
else:
    stream = io.BytesIO(tar)
    if point == "recipe":
        unpack.RecipeWriter.save = die
    else:
        setattr(layers, point, die)
with Store(root) as store:
    store.layers.add_from_tar(stream)
"""


@pytest.mark.parametrize("point", ["reading", "recipe", "sync", "sync_names"])
def test_killed_import_leaves_nothing_visible_and_is_collected(store: Store, tmp_path: Path, point: str) -> None:
    (tmp_path / "tar").write_bytes(TAR)
    done = subprocess.run([sys.executable, "-c", KILLED, point, store.root, tmp_path / "tar"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.layers.all() == []
    assert not is_clean(store)
    collect(store)
    assert is_clean(store)
    store.layers.add_from_tar(stream(TAR), DIFF_ID)
    store.layers.verify(DIFF_ID)


def test_import_goes_on_over_what_a_killed_one_left_in_its_place(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(TAR)
    subprocess.run([sys.executable, "-c", KILLED, "sync_names", store.root, tmp_path / "tar"], check=False)
    assert os.listdir(store.root / "layers") == [DIFF_ID.hex]
    store.layers.add_from_tar(stream(TAR), DIFF_ID)
    store.layers.verify(DIFF_ID)
