"""A store of a user who is not root, outside of any user namespace: images and snapshots work, through FUSE."""

from __future__ import annotations

import os
import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rootless.user import HOME, USER, prepare
from tests.store.images.made_images import docker_archive
from tests.store.tars import directory, entry, hard_link, symlink, tar_of
from unionfs.store import entry_metadata, overlay_format
from unionfs.store.drivers.union import UnionDriver
from unionfs.store.errors import StoreError
from unionfs.store.gc import collect
from unionfs.store.reference import parse_reference
from unionfs.store.snapshotter import Snapshotter
from unionfs.store.sources.archive import import_image
from unionfs.store.store import Store

BASE = tar_of(
    directory("etc"),
    entry("etc/file", b"base", uid=0, gid=0),
    entry("etc/gone", b"gone"),
    directory("conf"),
    entry("conf/old", b"old"),
    symlink("link", "etc/file"),
    entry("su", b"#!", mode=0o4755),
    hard_link("again", "su"),
)
PATCH = tar_of(directory("etc"), entry("etc/.wh.gone"), directory("conf"), entry("conf/.wh..wh..opq"), entry("conf/new", b"new"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What the user sees as `HOME`."""
    if os.geteuid() != 0 or shutil.which("fusermount3") is None:
        pytest.skip("needs root, to become a user, and fusermount3")
    path = tmp_path / "home"
    path.mkdir()
    docker_archive(path / "image.tar", BASE, PATCH, names=())
    return path


def as_user(home: Path, act: Callable[[Store], None], driver: str = "union") -> str:
    """Do it in a process of the user's, on a store in his home; the traceback of what went wrong."""
    failure = home / "failure"
    pid = os.fork()
    if pid == 0:
        try:
            prepare(home)
            os.umask(0o022)
            os.environ.update(UNIONFS_RUNTIME_DIR=str(HOME / "run"), UNIONFS_LOG_DIR=str(HOME / "log"), UNIONFS_DRIVER=driver)
            os.chdir(HOME)
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            _forget_being_root()
            with Store(HOME / "store") as store:
                act(store)
        except BaseException:
            (HOME / failure.name).write_text(traceback.format_exc())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return failure.read_text() if failure.exists() else ""


def _forget_being_root() -> None:
    for module in (entry_metadata, overlay_format):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


def imported(store: Store) -> str:
    """The topmost snapshot of the image."""
    image = import_image(store, HOME / "image.tar", parse_reference("site/a:1"))
    for layer in image.layers:
        store.layers.verify(layer)
    return store.snapshots.ensure_image(image.layers)


def mounted(snapshots: Snapshotter, key: str, look: Callable[[Path], None]) -> None:
    target = HOME / f"mnt-{key}"
    target.mkdir(exist_ok=True)
    snapshots.mount(key, target)
    try:
        look(target)
    finally:
        snapshots.unmount(target)


def tree(top: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(top)): None if path.is_dir() else path.read_text()
        for path in sorted(top.rglob("*"))
        if path.exists()
    }


WANTED = {"again": "#!", "conf": None, "conf/new": "new", "etc": None, "etc/file": "base", "link": "base", "su": "#!"}


@pytest.mark.parametrize("driver", ["union", "copy"])
def test_import_prepare_commit_and_remove(home: Path, driver: str) -> None:
    def act(store: Store) -> None:
        top = imported(store)
        assert [str(name) for image in store.images.all() for name in image.names] == ["site/a:1"]
        store.snapshots.prepare("box", top)
        if driver == "copy":
            change_in_place(store)
        else:
            mounted(store.snapshots, "box", change)
        store.snapshots.commit("result", "box")
        (info,) = [info for info in store.snapshots.walk() if info.name == "result"]
        assert info.parent == top
        store.snapshots.view("look", "result")
        other = Snapshotter(store.root, store.database, store.layers, UnionDriver())
        other.view("look-by-union", "result")
        mounted(other, "look-by-union", lambda place: _assert_changed(tree(place)))
        for name in ("look", "look-by-union", "result"):
            store.snapshots.remove(name)
        store.images.remove("site/a:1")
        collected = collect(store, store.snapshots)
        assert collected.is_complete
        assert [os.listdir(store.root / name) for name in ("layers", "blobs", "staging", "snapshots")] == [[]] * 4

    def change(place: Path) -> None:
        assert tree(place) == WANTED
        (place / "etc/file").write_text("mine")
        (place / "su").unlink()
        shutil.rmtree(place / "conf")
        (place / "conf").mkdir()
        (place / "conf/own").write_text("own")

    def change_in_place(store: Store) -> None:
        (place,) = (store.root / "snapshots").glob("*/tree")
        change(place)

    assert as_user(home, act, driver) == ""


def _assert_changed(found: dict[str, str | None]) -> None:
    assert found == {"again": "#!", "conf": None, "conf/own": "own", "etc": None, "etc/file": "mine", "link": "mine"}


def test_view_is_read_only(home: Path) -> None:
    def act(store: Store) -> None:
        store.snapshots.view("look", imported(store))
        mounted(store.snapshots, "look", look)

    def look(place: Path) -> None:
        assert tree(place) == WANTED
        with pytest.raises(OSError, match="Read-only"):
            (place / "new").touch()

    assert as_user(home, act) == ""


def test_driver_that_needs_rights_says_so(home: Path) -> None:
    def act(store: Store) -> None:
        with pytest.raises(StoreError, match=r"driver overlay: needs the right to mount.*run as root, or use --driver union"):
            store.snapshots.prepare("box", imported(store))

    assert as_user(home, act, "overlay") == ""


def test_store_of_another_user_is_refused_with_a_remedy(home: Path) -> None:
    with Store(home / "store"):
        pass
    failure = as_user(home, Store.close)
    assert re.search(r"StoreError: .*store.db: the database failed: .*; use a store that you may write to \(--root\)", failure)
