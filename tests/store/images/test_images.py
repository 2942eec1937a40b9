"""Names, removal, sizes, collection; and the small parts below them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.store.images.made_images import config_of, layout, tar_of
from unionfs.store.database import Database
from unionfs.store.digest import digest_of
from unionfs.store.errors import CorruptError, InUseError, NotFoundError, StoreError
from unionfs.store.gc import collect
from unionfs.store.image_config import ImageConfig, format_time, new_config, parse_time
from unionfs.store.images import Image
from unionfs.store.leases import adding
from unionfs.store.location import store_root
from unionfs.store.platforms import Platform
from unionfs.store.reference import parse_reference
from unionfs.store.sizes import sizes_of
from unionfs.store.sources.archive import import_image
from unionfs.store.store import Store

ONE, TWO, THREE = (tar_of({name: name.encode() * 9000}) for name in ("one", "two", "three"))


def add(store: Store, directory: Path, name: str, *layers: bytes) -> Image:
    return import_image(store, layout(directory / name.replace(":", "-"), *layers), parse_reference(name))


def use(store: Store, image: Image, container: str) -> None:
    with store.database.transaction() as connection:
        connection.execute(
            "INSERT INTO snapshots (name, kind, driver, created) VALUES (?, 'active', 'copy', 1.0)", (f"key-{container}",)
        )
        row = (container * 64, container, image.id, f"key-{container}", "{}", 1.0)
        connection.execute("INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?)", row)


def test_layer_of_two_images_is_there_once(store: Store, tmp_path: Path) -> None:
    first, second = add(store, tmp_path, "a:1", ONE, TWO), add(store, tmp_path, "b:1", ONE, THREE)
    sizes = sizes_of(store, store.images.all())
    unpacked = {layer.diff_id: layer.unpacked_size for layer in store.layers.all()}
    assert len(unpacked) == 3
    assert sizes[first.id].shared == sizes[second.id].shared == unpacked[digest_of(ONE)] > 0
    assert sizes[first.id].unique == unpacked[digest_of(TWO)]


def test_removal_keeps_layers_that_others_have(store: Store, tmp_path: Path) -> None:
    first, second = add(store, tmp_path, "a:1", ONE, TWO), add(store, tmp_path, "b:1", ONE, THREE)
    assert store.images.remove("a:1").deleted == first.id
    assert collect(store).layers == (digest_of(TWO),)
    assert store.images.all() == [second]
    assert not store.layers.path(digest_of(TWO)).exists()
    assert store.layers.path(digest_of(ONE)).exists()


def test_name_moves_to_the_new_image_and_the_old_one_stays(store: Store, tmp_path: Path) -> None:
    old = add(store, tmp_path, "a:1", ONE)
    new = import_image(store, layout(tmp_path / "new", TWO), parse_reference("a:1"))
    assert store.images.find("a:1") == new
    assert store.images.get(old.id).names == ()
    assert [removal.deleted for removal in store.images.prune()] == [old.id]


def test_one_of_several_names_goes_alone(store: Store, tmp_path: Path) -> None:
    image = add(store, tmp_path, "a:1", ONE)
    assert store.images.tag(image.id, parse_reference("b")) is None
    assert store.images.remove("a:1").deleted is None
    assert [str(name) for name in store.images.get(image.id).names] == ["b:latest"]


def test_id_of_an_image_with_several_names_is_removed_by_force_alone(store: Store, tmp_path: Path) -> None:
    image = add(store, tmp_path, "a:1", ONE)
    store.images.tag(image.id, parse_reference("b"))
    with pytest.raises(InUseError, match="several names: a:1, b:latest"):
        store.images.remove(image.id)
    assert store.images.remove(image.id, force=True).deleted == image.id


def test_image_of_a_container_stays(store: Store, tmp_path: Path) -> None:
    image = add(store, tmp_path, "a:1", ONE)
    use(store, image, "c")
    with pytest.raises(InUseError, match="used by containers: c"):
        store.images.remove("a:1")
    assert store.images.get(image.id) == image
    removal = store.images.remove("a:1", force=True)
    assert (removal.deleted, removal.used_by) == (None, ("c",))
    assert store.images.prune(named=True) == []
    assert collect(store).layers == ()
    assert store.images.get(image.id).names == ()


def test_image_is_found_by_name_id_and_beginning(store: Store, tmp_path: Path) -> None:
    image = add(store, tmp_path, "site/a:1", ONE)
    for text in ("site/a:1", image.id, image.id.hex, image.id.short, image.id[:12]):
        assert store.images.find(text) == image
    for text in ("site/a", "f" * 64, f"sha256:{image.id.hex[:8]}z", "nothing"):
        with pytest.raises(NotFoundError, match="no such image"):
            store.images.find(text)


def test_nothing_is_collected_while_somebody_adds(store: Store, tmp_path: Path) -> None:
    with adding(store.root):
        import io

        layer = store.layers.add_from_tar(io.BytesIO(ONE), None)
        collected = collect(store)
        assert (collected.layers, collected.is_complete) == ((), False)
    assert collect(store).layers == (layer.diff_id,)
    assert list(tmp_path.glob("store/layers/*")) == []


def test_left_over_of_a_dead_maker_is_removed_and_that_of_a_living_one_is_not(store: Store) -> None:
    from unionfs.store.staging import staged

    (store.staging / "1-0-dead").mkdir()
    with staged(store.root) as living:
        assert collect(store).staging == ("1-0-dead",)
        assert living.exists()


def test_changed_config_is_told(store: Store, tmp_path: Path) -> None:
    image = add(store, tmp_path, "a:1", ONE)
    store.images.blobs.path(image.id).write_bytes(b"{}")
    with pytest.raises(CorruptError, match="the config of an image was changed"):
        store.images.find("a:1")
    assert store.images.remove("a:1", force=True).deleted == image.id


def test_image_of_a_missing_layer_is_refused(store: Store) -> None:
    with pytest.raises(NotFoundError, match="one of its layers is not in the store"):
        store.images.add(config_of([ONE]), [digest_of(ONE)], None)
    assert store.images.all() == []
    assert collect(store).configs == (digest_of(config_of([ONE])),)


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("a", "a", "latest"),
        ("a:1", "a", "1"),
        ("h:5000/a/b:x", "h:5000/a/b", "x"),
        ("H.example/a__b", "H.example/a__b", "latest"),
    ],
)
def test_reference_is_taken_apart(text: str, name: str, tag: str) -> None:
    assert parse_reference(text) == (name, tag)


@pytest.mark.parametrize(
    "text", ["", "A", "a:", "a/", "/a", "a b", "a@sha256:0", "sha256:abc", "0" * 64, "a" * 256, "a:" + "t" * 129]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="not a name of an image") as refused:
        parse_reference(text)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize("text", ["1970-01-01T00:00:01Z", "1970-01-01T01:00:01+01:00", "1970-01-01T00:00:01.000Z"])
def test_times_are_seconds_since_the_epoch(text: str) -> None:
    assert parse_time(text, "config") == 1.0


def test_times_that_are_none_are_refused() -> None:
    assert parse_time("0001-01-01T00:00:00Z", "config") == -62135596800.0
    assert format_time(1.5) == "1970-01-01T00:00:01.500000Z"
    for value in (5, "yesterday", "1970-13-01T00:00:00Z"):
        with pytest.raises(CorruptError, match="is no time"):
            parse_time(value, "config")


def test_new_config_goes_on_where_its_base_ends() -> None:
    base = ImageConfig.parse(config_of([ONE], history=[{"created_by": "base"}]))
    made = ImageConfig.parse(new_config([*base.diff_ids, digest_of(TWO)], created=2.0, base=base, created_by="commit"))
    assert (made.env, made.created) == (base.env, 2.0)
    assert [step["created_by"] for step in made.raw["history"]] == ["base", "commit"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"rootfs":{"type":"other"}}', b"[" * 9999, b'{"rootfs":{"type":"layers","diff_ids":["x"]}}']
)
def test_malformed_config_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError):
        ImageConfig.parse(data)


def test_arm_takes_the_newest_of_older_variants() -> None:
    machine = Platform("linux", "arm", "v7")
    grades = [Platform("linux", "arm", variant).fitness(machine) for variant in ("v8", "v7", "v6", "v5")]
    assert grades == [None, 100, 6, 5]
    assert Platform("linux", "amd64").fitness(machine) is None


def test_root_is_the_option_then_the_variable_then_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_ROOT", "/variable")
    assert (store_root(Path("/given")), store_root()) == (Path("/given"), Path("/variable"))
    monkeypatch.delenv("UNIONFS_ROOT")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert store_root() == Path("/data/unionfs")


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"version 99, this unionfs knows \d+;"):
        Database(tmp_path)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"store\.db: the database failed"):
        Database(tmp_path)


def test_transaction_that_fails_changes_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.database.transaction() as connection:  # noqa: PT012
        connection.execute("INSERT INTO images VALUES ('x', 1.0)")
        raise RuntimeError
    assert store.database.read("SELECT * FROM images") == []
