"""Images with links where we, or runc for us, write and read before a container starts: all of it stays in the container."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Engine, _busybox
from tests.security.outside import SECRET, Outside
from tests.store.tars import Entry, entry, stream, symlink, tar_of
from unionfs.containers.init_layer import _make_places
from unionfs.store.errors import StoreError
from unionfs.store.image_config import new_config
from unionfs.store.leases import adding
from unionfs.store.reference import parse_reference
from unionfs.store.store import open_store

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("runc"), reason="runs containers")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    made = Outside(tmp_path / "outside")
    yield made
    assert made.changes == []


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    running = Engine(tmp_path / "store")
    yield running
    running.end_all()


def add_image(engine: Engine, *entries: Entry) -> None:
    """``evil``: busybox, and ``entries`` over it."""
    with open_store(engine.root) as store, adding(engine.root):
        layers = [store.layers.add_from_tar(_busybox()).diff_id, store.layers.add_from_tar(stream(tar_of(*entries))).diff_id]
        store.images.add(new_config(layers, created=0, config={"Cmd": ["sh"]}), layers, parse_reference("evil"))


def test_links_of_an_image_do_not_lead_out_of_the_container(engine: Engine, outside: Outside, tmp_path: Path) -> None:
    """The places of volumes, of /etc/hosts and the like, of the working directory, of the list of users."""
    source = tmp_path / "source"
    source.mkdir()
    place = str(outside.path)
    add_image(
        engine,
        symlink("data", f"{place}/d"),
        symlink("work", place),
        symlink("etc/hosts", f"{place}/f"),
        symlink("etc/hostname", f"{place}/d/f"),
        symlink("etc/resolv.conf", f"{place}/new"),
        symlink("etc/passwd", f"{place}/f"),
        symlink("proc-link", "/proc/1/root"),
    )
    script = "echo inside > /data/note; cat /work/f /etc/passwd 2>&1; pwd"
    ended = engine.run("run", "--rm", "-v", f"{source}:/data", "-v", "made:/work/e", "-w", "/work", "evil", "sh", "-c", script)
    assert SECRET.decode() not in ended.stdout + ended.stderr
    assert outside.changes == []
    # Either refused, or done where the container sees it.
    assert (ended.status, os.listdir(source)) == (0, ["note"]) or (ended.status != 0 and os.listdir(source) == [])


def test_image_whose_own_dev_is_a_link_is_refused(engine: Engine, outside: Outside) -> None:
    # runc 1.1.5 makes stdin, ptmx and others below it, and removes what is there, on the host.
    add_image(engine, symlink("dev", str(outside.path)))
    ended = engine.run("run", "--rm", "evil", "true")
    assert ended.status == 125
    assert "/dev: is no directory in the image" in ended.stderr


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_places_of_the_runtime_are_directories_or_missing(tmp_path: Path, outside: Outside, name: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / name).symlink_to(outside.path)
    with pytest.raises(StoreError, match=f"/{name}: is no directory in the image"):
        _make_places(tmp_path / "root")
    (tmp_path / "root" / name).unlink()
    _make_places(tmp_path / "root")
    assert (tmp_path / "root" / name).is_dir()


def test_user_is_not_looked_up_in_a_file_of_the_host(engine: Engine, outside: Outside) -> None:
    add_image(
        engine,
        symlink("etc/passwd", str(outside.path / "f")),
        symlink("etc/group", "../" * 20 + "etc/group-of-host"),
    )
    ended = engine.run("run", "--rm", "-u", "nobody", "evil", "id")
    assert ended.status != 0
    assert "no such user in the image's /etc/passwd" in ended.stderr


def test_volume_is_filled_with_links_and_not_with_what_they_lead_to(engine: Engine, outside: Outside) -> None:
    add_image(engine, entry("data/note", b"of the image"), symlink("data/f", str(outside.path / "f")), symlink("data/d", "/"))
    said = engine.ok("run", "--rm", "-v", "filled:/data", "evil", "sh", "-c", "cat /data/note; readlink /data/f")
    assert said == f"of the image{outside.path}/f\n"
    data = engine.root / "volumes/filled/_data"
    assert sorted(path.name for path in data.iterdir() if path.is_symlink()) == ["d", "f"]
