"""What a copy-up makes durable, and when: ``fsync=auto``, ``strict``, ``volatile``."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, stack
from tests.overlay.conftest import Open
from unionfs.filesystem import SET_MODE, Blocking, Changes
from unionfs.overlay import Options, Union
from unionfs.overlay.tree import Tree

STRICT = Options(fsync="strict")
STRICT_METACOPY = Options(fsync="strict", metacopy=True)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(inode number, mode) of every object that was synced, as it was then; the upper counts as one that outlives a crash."""
    done: list[tuple[int, int]] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        st = os.fstat(fd)
        done.append((st.st_ino, st.st_mode & 0o7777))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Tree, "upper_is_durable", True)
    return done


def state(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mode & 0o7777


def test_strict_syncs_directories_and_files_complete_with_their_metadata(
    open_union: Open, tmp_path: Path, synced: list[tuple[int, int]]
) -> None:
    client = open_union({"d/e/f": b"lower", "d/e/empty": b""}, options=STRICT)
    for name, mode in (("d", 0o711), ("d/e/f", 0o4755), ("d/e/empty", 0o604)):
        (tmp_path / "lower0" / name).chmod(mode)
    client.write("d/e/f", b"L")
    client.chmod("d/e/empty", 0o600)
    upper = tmp_path / "upper"
    (upper / "d/e/empty").chmod(0o604)  # as it was copied up
    assert synced == [state(upper / name) for name in ("d", "d/e", "d/e/f", "d/e/empty")]


def test_auto_syncs_only_data(open_union: Open, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
    client = open_union({"d/f": b"lower", "d/empty": b""})
    client.chmod("d/empty", 0o600)
    assert synced == []
    client.chmod("d/f", 0o600)
    assert [ino for ino, _ in synced] == [(tmp_path / "upper/d/f").stat().st_ino]


def test_volatile_syncs_nothing(open_union: Open, synced: list[tuple[int, int]]) -> None:
    client = open_union({"d/f": b"lower" * 100_000}, options=Options(fsync="volatile"))
    client.chmod("d/f", 0o600)
    client.call(client.union.fsync, client.node("d/f"), False)
    client.call(client.union.fsync, client.node("d"), False)
    assert synced == []


def test_fsync_of_a_directory_is_that_of_its_upper_part(open_union: Open, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
    client = open_union({"lower/f": b"", "d/f": b""})
    client.chmod("d/f", 0o600)
    for name in ("", "d", "lower"):
        client.call(client.union.fsync, client.node(name), False)
    assert synced == [state(tmp_path / "upper"), state(tmp_path / "upper/d")]


def test_nothing_shows_before_it_is_durable(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"d/f": b""}, options=STRICT)
    node = client.node("d/f")
    shown = []
    while True:
        try:
            client.union.setattr(node, Changes(SET_MODE, mode=0o600), ROOT)
            break
        except Blocking as blocking:
            shown.append(sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("upper/**/*")))
            blocking.work()
    assert shown == [[], ["upper/d"]]


def test_failed_sync_is_told_once_and_leaves_nothing(open_union: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    client = open_union({"d/f": b""}, options=STRICT)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            client.chmod("d/f", 0o600)
    assert list((tmp_path / "upper").iterdir()) == list((tmp_path / "work/work").iterdir()) == []
    assert client.chmod("d/f", 0o600).mode & 0o777 == 0o600


def test_writer_that_meets_a_metadata_copy_being_synced_gets_its_data(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"}, options=STRICT_METACOPY)
    node = client.node("f")
    with pytest.raises(Blocking) as first:
        client.union.setattr(node, Changes(SET_MODE, mode=0o600), ROOT)
    with pytest.raises(Blocking) as second:
        client.union.open(node, os.O_WRONLY, ROOT)
    assert first.value.work is second.value.work
    first.value.work()
    client.call(client.union.open, node, os.O_WRONLY, ROOT)
    client.union.setattr(node, Changes(SET_MODE, mode=0o600), ROOT)
    assert (tmp_path / "upper/f").read_bytes() == b"lower"
    assert os.listxattr(tmp_path / "upper/f") == ["trusted.overlay.origin"]


def test_metadata_copy_of_a_file_removed_while_it_is_synced_keeps_its_data(open_union: Open) -> None:
    client = open_union({"f": b"lower"}, options=STRICT_METACOPY)
    node = client.node("f")
    with pytest.raises(Blocking) as blocking:
        client.union.setattr(node, Changes(SET_MODE, mode=0o600), ROOT)
    client.unlink("f")
    blocking.value.work()
    assert client.call(client.union.setattr, node, Changes(SET_MODE, mode=0o600), ROOT).mode & 0o777 == 0o600
    assert client.call(client.union.read, node, 0, 10) == b"lower"


def test_directory_removed_while_it_is_synced_leaves_no_trace(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"d": None}, options=STRICT)
    node = client.node("d")
    with pytest.raises(Blocking) as blocking:
        client.union.setattr(node, Changes(SET_MODE, mode=0o700), ROOT)
    client.rmdir("d")
    blocking.value.work()
    with pytest.raises(OSError, match="No such file"):
        client.union.setattr(node, Changes(SET_MODE, mode=0o700), ROOT)
    client.union.forget(node, 9)
    assert (tmp_path / "upper/d").is_char_device()
    assert [path for path in (tmp_path / "work/work").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("metacopy", [False, True])
def test_names_of_one_lower_file_stay_together_while_it_is_synced(tmp_path: Path, metacopy: bool) -> None:
    layers = stack(tmp_path, {"a": b"lower", "d": None})
    os.link(tmp_path / "lower0/a", tmp_path / "lower0/d/b")
    client = Client(Union(layers, Options(fsync="strict", metacopy=metacopy, index="on")))
    client.chmod("d/b", 0o600)
    client.write("a", b"L")
    assert (client.read("a"), client.read("d/b"), client.attr("a").nlink) == (b"Lower", b"Lower", 2)
    assert client.attr("a").ino == client.attr("d/b").ino
    client.union.close()
