"""Changes of a store: images, layers, snapshots, volumes."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.scenario import Act, Found, State
from tests.crash.trees import tree_of
from tests.faults.tree import OLD
from tests.store.images.made_images import layout, tar_of
from unionfs.store.errors import CorruptError
from unionfs.store.gc import collect
from unionfs.store.image_config import new_config
from unionfs.store.leases import adding
from unionfs.store.reference import parse_reference
from unionfs.store.snapshotter import Kind
from unionfs.store.sources.archive import import_image
from unionfs.store.store import Store
from unionfs.volumes import open_volumes

_BASE = tar_of({"etc/name": b"base\n" * 9, "big": b"0123456789" * 20_000})
_TOP = tar_of({"etc/name": b"top\n", "more": b"more\n"})
_NAME = parse_reference("site/web:1.0")

Change = Callable[[Store, Path], object]


class StoreChange(NamedTuple):
    """``prepare`` is done by an earlier command; ``change`` by the one that is crashed.  Both get the store, and where it is.
    ``of_layers``: layers count that nothing needs; otherwise they are what the next garbage collection takes."""

    change: Change
    prepare: Change = lambda _store, _top: None
    of_layers: bool = False

    def make(self, top: Path) -> None:
        """See `Scenario.make`."""
        top.mkdir(parents=True)
        layout(top / "source", _BASE, _TOP)
        with Store(top / "store") as store:
            self.prepare(store, top)

    def begin(self, top: Path) -> Act:
        """See `Scenario.begin`."""

        def act() -> None:
            with Store(top / "store") as store:
                self.change(store, top)

        return act

    def look(self, top: Path, *, last: bool = True) -> Found:
        """See `Scenario.look`.  What the commands list, then what ``unionfs gc`` leaves."""
        with Store(top / "store") as store:
            state, problems = _listed(store, self.of_layers)
            if last:
                collect(store, store.snapshots)
                open_volumes(store).collect()
                problems += _left_over(store)
        return Found(state, {}, problems)


def store_changes() -> Iterator[tuple[str, StoreChange]]:
    """All of them, each with what it is in words."""
    yield "import of a layer", StoreChange(_import_layer, of_layers=True)
    yield "import of an image", StoreChange(_import)
    yield "import of an image whose layers are there", StoreChange(_import, _import_layer)
    yield "removal of an image", StoreChange(lambda store, _: store.images.remove(str(_NAME)), _import)
    yield "garbage collection", StoreChange(lambda store, _: collect(store, store.snapshots), _import_unused)
    yield "creation of a volume", StoreChange(lambda store, _: open_volumes(store).create("data", labels={"a": "b"}))
    yield "removal of a volume", StoreChange(lambda store, _: open_volumes(store).remove("data"), _create_volume)
    yield "creation of a snapshot", StoreChange(_prepare_snapshot, _import_with_chain)
    yield "removal of a snapshot", StoreChange(lambda store, _: store.snapshots.remove("box"), _write_to_snapshot)
    yield "commit of a snapshot", StoreChange(lambda store, _: store.snapshots.commit("made", "box"), _write_to_snapshot)
    yield "commit to an image", StoreChange(_commit, _write_to_snapshot)


# -- the changes --------------------------------------------------------------------------------------------------------------


def _import_layer(store: Store, _top: Path) -> None:
    with adding(store.root):
        store.layers.add_from_tar(io.BytesIO(_BASE))


def _import(store: Store, top: Path) -> None:
    import_image(store, top / "source", _NAME)


def _import_unused(store: Store, top: Path) -> None:
    _import(store, top)
    store.images.remove(str(_NAME))
    (store.root / "snapshots/77/tree").mkdir(parents=True)


def _create_volume(store: Store, _top: Path) -> None:
    volumes = open_volumes(store)
    volumes.create("data")
    (volumes.directory("data") / "_data/file").write_text("whole")


def _import_with_chain(store: Store, top: Path) -> None:
    _import(store, top)
    store.snapshots.ensure_image(store.images.find(str(_NAME)).layers)


def _prepare_snapshot(store: Store, _top: Path) -> None:
    with adding(store.root):
        parent = store.snapshots.ensure_image(store.images.find(str(_NAME)).layers)
        store.snapshots.prepare("box", parent)


def _write_to_snapshot(store: Store, top: Path) -> None:
    """As a container would have: a file is changed, one is gone, one is new."""
    _import(store, top)
    _prepare_snapshot(store, top)
    upper = store.snapshots.changes_dir("box")
    assert upper is not None
    (upper / "etc").mkdir()
    (upper / "etc/name").write_text("changed")
    (upper / "new").write_text("new" * 1000)
    os.mknod(upper / "more", stat.S_IFCHR, 0)
    for path in (*upper.rglob("*"), upper):  # a layer of the same digest each time
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)


def _commit(store: Store, _top: Path) -> None:
    """All of ``unionfs commit`` that changes something on disk."""
    image = store.images.find(str(_NAME))
    with adding(store.root):
        layers = [*image.layers, store.snapshots.keep_changes("box")]
        store.images.add(new_config(layers, created=0, base=image.config), layers, parse_reference("made:1"))


# -- looking ------------------------------------------------------------------------------------------------------------------


def _listed(store: Store, of_layers: bool) -> tuple[State, list[str]]:
    state: dict[str, object] = {}
    problems: list[str] = []
    for image in store.images.all():
        state[f"image {image.id}"] = sorted(map(str, image.names)), image.layers
    for layer in store.layers.all():
        if of_layers or store.layers.users(layer.diff_id):
            state[f"layer {layer.diff_id}"] = layer.tar_size, layer.entries
        with _noted(problems):
            store.layers.verify(layer.diff_id)
    for info in store.snapshots.walk():
        upper = store.snapshots.changes_dir(info.name) if info.kind is Kind.ACTIVE else None
        state[f"snapshot {info.name}"] = info.kind, info.parent, upper and tree_of(upper)
    volumes = open_volumes(store)
    for volume in volumes.all():
        state[f"volume {volume.name}"] = volume.labels, tree_of(volumes.directory(volume.name))
    return state, problems


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except CorruptError as error:
        problems.append(str(error))


def _left_over(store: Store) -> list[str]:
    root = store.root
    left = [*os.listdir(store.staging), *store.layers.left_over(), *open_volumes(store).left_over()]
    blobs = {str(digest) for digest in store.images.blobs.all()} - {str(image.id) for image in store.images.all()}
    active = sum(info.kind is not Kind.COMMITTED for info in store.snapshots.walk())
    numbers = os.listdir(root / "snapshots") if (root / "snapshots").exists() else []
    if len(numbers) != active:
        left += numbers
    return [f"garbage collection leaves {name}" for name in (*left, *sorted(blobs))]
