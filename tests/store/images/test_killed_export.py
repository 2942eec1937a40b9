"""An export that is killed leaves no target, and what it leaves beside it goes with the next one."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unionfs.store.unfinished as unfinished
from tests.store.images.made_images import layout, tar_of
from unionfs.mounter.processes import start_time
from unionfs.store.errors import ExistsError, StoreError
from unionfs.store.export import Format, export_image
from unionfs.store.images import Image
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
from unionfs.store.store import Store

BASE = tar_of({"etc/name": b"base\n" * 900})
FORMATS: tuple[Format, ...] = ("oci", "oci-dir", "docker")

KILLED = """
import os, signal, sys
from pathlib import Path
import unionfs.store.export as export, unionfs.store.unfinished as unfinished
from unionfs.store.store import Store

root, target, kind, point = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if point == "named":
    unfinished._NO_TMPFILE = frozenset(range(200))
    os.O_TMPFILE = os.O_DIRECTORY | os.O_CREAT  # which fails with EINVAL
    point = "writing"
if point == "writing":
    export._put_document = die
else:
    unfinished._link = unfinished._rename = die
with Store(Path(root)) as store:
    export.export_image(store, store.images.find("a"), Path(target), kind)
"""


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    return import_image(store, layout(tmp_path / "layout", BASE), parse_reference("a"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def killed_export(store: Store, target: Path, kind: Format, point: str) -> list[str]:
    """What is beside ``target`` after it."""
    done = subprocess.run([sys.executable, "-c", KILLED, store.root, target, kind, point], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    return os.listdir(target.parent)


@pytest.mark.parametrize("point", ["writing", "publishing"])
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_killed_export_of_a_file_leaves_nothing_at_all(store: Store, image: Image, place: Path, kind: Format, point: str) -> None:
    assert image.names
    assert killed_export(store, place / "out", kind, point) == []


@pytest.mark.parametrize(("kind", "point"), [("oci-dir", "writing"), ("oci-dir", "publishing"), ("oci", "named")])
def test_what_a_killed_export_leaves_goes_with_the_next_one_in_its_directory(
    store: Store, image: Image, place: Path, kind: Format, point: str
) -> None:
    (left,) = killed_export(store, place / "out", kind, point)
    assert left.startswith(".out.")
    export_image(store, image, place / "other", "docker")
    assert os.listdir(place) == ["other"]


def write_half(target: Path) -> None:
    with unfinished.unfinished_file(target, replace=True) as fd:
        os.write(fd, b"half")
        raise ZeroDivisionError


def test_file_that_is_replaced_stays_until_the_new_one_is_complete(place: Path) -> None:
    target = place / "out"
    target.write_text("old")
    (place / ".out.1-1-abcdefgh.part").touch()
    with pytest.raises(ZeroDivisionError):
        write_half(target)
    assert (os.listdir(place), target.read_text()) == (["out"], "old")
    with unfinished.unfinished_file(target, replace=True) as fd:
        os.write(fd, b"new")
        assert target.read_text() == "old"
    assert (os.listdir(place), target.read_text()) == (["out"], "new")


@pytest.mark.parametrize("kind", FORMATS)
def test_target_is_not_there_before_it_is_complete(
    store: Store, image: Image, place: Path, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def look(directory: Path) -> None:
        seen.append([name for name in os.listdir(directory) if not name.startswith(".out.")])

    for step in ("_link", "_rename", "sync_names"):
        monkeypatch.setattr(unfinished, step, _before(look, getattr(unfinished, step)))
    export_image(store, image, place / "out", kind)
    assert seen == [[], ["out"]]
    assert os.listdir(place) == ["out"]


def test_what_somebody_else_makes_just_now_stays(store: Store, image: Image, place: Path) -> None:
    ours = f".x.{os.getpid()}-{start_time(os.getpid())}-abcdefgh.part"
    locked = place / ".x.1-1-abcdefgh.part"  # its maker is told by its lock: it is in another pid namespace
    strange = [".x.part", "x.1-1-abcdefgh.part", ".x.1-1-abcdefgh.part.old"]
    for name in (ours, *strange):
        (place / name).touch()
    with open(locked, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        export_image(store, image, place / "out", "oci")
        assert sorted(os.listdir(place)) == sorted([ours, locked.name, *strange, "out"])
    (place / "out").unlink()
    export_image(store, image, place / "out", "oci")
    assert not locked.exists()


def test_link_and_file_of_another_user_are_no_leftovers(store: Store, image: Image, place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    (place / ".x.1-1-aaaaaaaa.part").symlink_to(tmp_path / "mine")
    (place / ".x.1-1-bbbbbbbb.part").touch()
    os.chown(place / ".x.1-1-bbbbbbbb.part", 7, 7)
    export_image(store, image, place / "out", "oci")
    assert len(os.listdir(place)) == 3
    assert (tmp_path / "mine/file").exists()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("is_named", [False, True], ids=["nameless", "named"])
def test_what_came_meanwhile_under_the_name_of_the_target_stays(
    store: Store, image: Image, place: Path, kind: Format, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_named:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT)
    monkeypatch.setattr(unfinished, "_link", _after(unfinished._link, place / "out"))
    monkeypatch.setattr(unfinished, "_rename", _after(unfinished._rename, place / "out"))
    with pytest.raises(ExistsError, match="is there already"):
        export_image(store, image, place / "out", kind)
    assert os.listdir(place) == ["out"]
    assert (place / "out").read_text() == "theirs"


def _before(look: Callable[[Path], None], step: Callable[..., None]) -> Callable[..., None]:
    def looked(*arguments: Any) -> None:
        last = arguments[-1]
        look(last if last.is_dir() and last.name == "place" else last.parent)
        step(*arguments)

    return looked


def _after(publish: object, target: Path) -> object:
    def overtaken(*arguments: object) -> None:
        target.write_text("theirs")
        publish(*arguments)  # type: ignore[operator]

    return overtaken


@pytest.mark.parametrize("kind", FORMATS)
def test_full_disk_names_the_target_and_leaves_nothing(store: Store, place: Path, kind: Format) -> None:
    big = import_image(store, layout(place.with_name("big"), tar_of({"big": os.urandom(200_000)})), parse_reference("big"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", place], check=True)
    try:
        with pytest.raises(
            StoreError, match=rf"^{place}/out: cannot be written: No space left.*; make room on the disk of {place}$"
        ):
            export_image(store, big, place / "out", kind)
        assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", place], check=True)
