"""The image's content goes into an empty volume, once and as a whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volumes.conftest import killed_at
from unionfs.linux.mount import mount, umount
from unionfs.store.errors import NotFoundError, StoreError
from unionfs.store.store import Store
from unionfs.volumes import Filling, VolumeManager, open_volumes
from unionfs.volumes.fill import fill
from unionfs.volumes.subpath import open_subpath


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What the image has where the volume goes."""
    image = tmp_path / "image"
    image.mkdir(0o1770)
    image.chmod(0o1770)
    os.chown(image, 5, 6)
    (image / "dir").mkdir(0o711)
    (image / "dir/file").write_text("content")
    os.chown(image / "dir/file", 7, 8)
    (image / "dir/file").chmod(0o4755)
    os.setxattr(image / "dir/file", "user.note", b"x")
    os.link(image / "dir/file", image / "second")
    os.symlink("/nowhere", image / "link")
    os.mkfifo(image / "fifo")
    os.utime(image / "dir", ns=(10**18, 10**18 + 5))
    return image


def fill_from(volumes: VolumeManager, name: str, image: Path, user: str = "container:1") -> bool:
    data = volumes.mount(name, user)
    source = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return fill(volumes, name, data, source)
    finally:
        os.close(source)
        volumes.unmount(name, user)


def described(tree: Path) -> dict[str, tuple[object, ...]]:
    """All that a copy has to keep."""

    def describe(path: Path) -> Iterator[object]:
        status = path.lstat()
        yield from (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        yield status.st_nlink if not path.is_dir() else None
        yield {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
        if stat.S_ISREG(status.st_mode):
            yield path.read_bytes()
        if path.is_symlink():
            yield path.readlink()

    return {str(path.relative_to(tree)): tuple(describe(path)) for path in [tree, *sorted(tree.rglob("*"))]}


def test_empty_volume_gets_all_of_the_content(volumes: VolumeManager, image: Path) -> None:
    volumes.create("data")
    assert fill_from(volumes, "data", image)
    data = volumes.directory("data") / "_data"
    assert described(data) == described(image)
    assert (data / "second").samefile(data / "dir/file")
    assert volumes.get("data").filling is Filling.DONE


def test_volume_is_filled_once_and_never_again(volumes: VolumeManager, image: Path) -> None:
    volumes.create("data")
    fill_from(volumes, "data", image)
    data = volumes.directory("data") / "_data"
    for name in ("second", "link", "fifo", "dir/file"):
        (data / name).unlink()
    (data / "dir").rmdir()
    assert not fill_from(volumes, "data", image)
    assert os.listdir(data) == []


def test_volume_with_content_stays_as_it_is(volumes: VolumeManager, image: Path) -> None:
    volumes.create("data")
    data = volumes.directory("data") / "_data"
    (data / "own").touch()
    assert not fill_from(volumes, "data", image)
    assert os.listdir(data) == ["own"]
    assert volumes.get("data").filling is Filling.DONE


def test_full_disk_leaves_the_volume_empty_and_is_told(volumes: VolumeManager, image: Path) -> None:
    (image / "big").write_bytes(bytes(1 << 20))
    volumes.create("data", "local", {"type": "tmpfs", "device": "tmpfs", "o": "size=64k"})
    data = volumes.mount("data", "container:keeps")
    with pytest.raises(StoreError, match=r"No space left.*make room"):
        fill_from(volumes, "data", image)
    assert os.listdir(data) == []
    assert volumes.get("data").filling is Filling.NEW
    volumes.release("container:keeps")


def test_killed_at_any_moment_the_next_one_sees_nothing_or_all(store: Store, volumes: VolumeManager, image: Path) -> None:
    wanted = described(image)

    def act() -> None:
        with Store(store.root) as own:
            fill_from(open_volumes(own), "data", image)

    point = 0
    volumes.create("data")
    while killed_at(point, act):
        point += 1
        volumes.release("container:1")
        data = volumes.mount("data", "container:2")  # without copying
        found = os.listdir(data)
        assert not found or described(data) == wanted
        volumes.unmount("data", "container:2")
        volumes.remove("data")
        volumes.create("data")
    assert point > 40
    assert described(volumes.directory("data") / "_data") == wanted


# -- parts of a volume ------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "in/side").mkdir(parents=True)
    (data / "in/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return data


def opened(data: Path, subpath: str) -> str:
    fd = open_subpath("vol", data, subpath)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_subpath_is_found_through_links_that_stay_inside(data: Path) -> None:
    (data / "link").symlink_to("in/../in/side")
    assert opened(data, "in/side") == str(data / "in/side")
    assert opened(data, "link") == str(data / "in/side")
    assert opened(data, "in/file") == str(data / "in/file")


@pytest.mark.parametrize("target", ["..", "../secret", "/etc", "in/../../secret", "/"])
def test_link_that_leaves_the_volume_is_refused(data: Path, target: str) -> None:
    (data / "link").symlink_to(target)
    with pytest.raises(StoreError, match="leads out of the volume"):
        open_subpath("vol", data, "link")


def test_subpath_that_is_not_there_is_named(data: Path) -> None:
    with pytest.raises(NotFoundError, match="vol: subpath in/none"):
        open_subpath("vol", data, "in/none")


def test_subpath_swapped_for_a_link_after_it_was_opened_stays_what_it_was(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    fd = open_subpath("vol", data, "in")
    (data / "in").rename(data / "was")
    (data / "in").symlink_to("/etc")
    mount(b"/proc/self/fd/%d" % fd, os.fsencode(place), b"", 4096, b"")
    os.close(fd)
    assert sorted(os.listdir(place)) == ["file", "side"]
    umount(os.fsencode(place), 0)
