"""Archives that are odd, and a full disk.

As containerd and podman do (tried with podman 4.3.1): a layer without its end mark is taken, a hard link to itself is not.  For a
whiteout of a directory that the layer has too podman's storage drivers disagree (overlay refuses it, vfs lets the last entry
count); here it is as image-spec, layer.md, has it: "Whiteout files MUST only apply to resources in lower/parent layers".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import unionfs.store.layers as layers
from tests.store.archive.conftest import Bench
from tests.store.tars import Entry, directory, entry, hard_link, stream, tar_of
from unionfs.store.digest import digest_of
from unionfs.store.errors import CorruptError, RefusedEntryError, StoreError
from unionfs.store.store import Store

END = 1024
"""Bytes of the two blocks of zeros that are the end mark."""


@pytest.fixture
def store(store_root: Path) -> Iterator[Store]:
    with Store(store_root) as opened:
        yield opened


def opaque(path: Path) -> bytes:
    return os.getxattr(path, "trusted.overlay.opaque")


# -- whiteouts and what the layer has itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inside",
    [[entry("a/b/f", b"kept")], [directory("a/b"), entry("a/b/f", b"kept")], [entry("a/b/f", b"kept"), entry("a/b/.wh.g")]],
    ids=["file", "directory", "whiteout"],
)
def test_whiteout_before_what_is_in_its_directory_hides_only_what_is_below_the_layer(bench: Bench, inside: list[Entry]) -> None:
    bench.unpack(entry(".wh.a"), *inside)
    assert opaque(bench.diff / "a") == b"y"
    assert stat.S_IMODE(os.stat(bench.diff / "a").st_mode) == 0o755
    assert (bench.diff / "a/b/f").read_bytes() == b"kept"
    assert "trusted.overlay.opaque" not in os.listxattr(bench.diff / "a/b")


def test_whiteout_deep_on_the_way_becomes_an_opaque_directory(bench: Bench) -> None:
    bench.unpack(entry("x/.wh.a"), entry("x/a/b/c", b"1"))
    assert opaque(bench.diff / "x/a") == b"y"
    assert "trusted.overlay.opaque" not in os.listxattr(bench.diff / "x")


def test_order_of_whiteout_and_content_makes_no_difference(tmp_path: Path) -> None:
    both = [entry(".wh.a"), entry("a/f", b"1")]
    for number, entries in enumerate((both, both[::-1])):
        bench = Bench(tmp_path / str(number))
        bench.unpack(*entries)
        assert opaque(bench.diff / "a") == b"y"
        assert os.listdir(bench.diff) == ["a"]


def test_link_to_what_is_below_a_whiteout_is_refused(bench: Bench) -> None:
    with pytest.raises(RefusedEntryError, match="'l': a hard link to 'a/b', which is no file of the layer"):
        bench.unpack(entry(".wh.a"), hard_link("l", "a/b"))


# -- the end ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_layer_without_an_end_mark_is_taken_where_its_digest_is_known(store: Store, blocks: int) -> None:
    data = tar_of(entry("f", b"content"))
    data = data[: len(data) - END + 512 * blocks]
    layer = store.layers.add_from_tar(stream(data), digest_of(data))
    assert (layer.path / "f").read_bytes() == b"content"
    store.layers.verify(layer.diff_id)


def test_nothing_at_all_is_an_empty_layer_where_its_digest_is_known(store: Store) -> None:
    assert store.layers.add_from_tar(stream(b""), digest_of(b"")).entries == 0
    store.layers.verify(digest_of(b""))
    with pytest.raises(CorruptError):
        store.layers.add_from_tar(stream(b""))


def test_root_filesystem_without_an_end_mark_is_a_truncated_one(store: Store) -> None:
    with pytest.raises(CorruptError, match="truncated or damaged: there is no end of the archive"):
        store.layers.add_from_tar(stream(tar_of(entry("f", b"content"))[:-END]))


def test_truncation_is_told_by_the_digest_where_there_is_no_end_mark(store: Store) -> None:
    whole = tar_of(entry("f", b"content"), entry("g", b"more"))
    with pytest.raises(CorruptError):
        store.layers.add_from_tar(stream(whole[:1024]), digest_of(whole))
    damaged = bytearray(whole)
    damaged[1024] ^= 0xFF  # the header of g, which tarfile takes for the end
    with pytest.raises(CorruptError):
        store.layers.add_from_tar(stream(bytes(damaged)), digest_of(bytes(damaged)))
    assert store.layers.all() == []


# -- links to themselves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [entry("f", b"1")]], ids=["absent", "there"])
def test_hard_link_to_itself_is_refused_and_named(bench: Bench, before: list[Entry]) -> None:
    with pytest.raises(RefusedEntryError, match="'f': a hard link to itself"):
        bench.unpack(*before, hard_link("f", "./f"))


# -- a full disk -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["sync", "sync_names", "save_skipped"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_while_the_layer_is_put_in_place_names_it_and_the_remedy(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(layers, step, full)
    problem = rf"a\.tar: cannot be written: {os.strerror(number)}; make room on the disk of the store"
    with pytest.raises(StoreError, match=problem):
        store.layers.add_from_tar(stream(tar_of(entry("f", b"1"))), thing="a.tar")
    assert store.layers.all() == []
    assert os.listdir(store.staging) == []


def test_other_failures_while_the_layer_is_put_in_place_stay_what_they_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(layers, "sync", broken)
    with pytest.raises(OSError, match="Input/output error") as failed:
        store.layers.add_from_tar(stream(tar_of(entry("f", b"1"))))
    assert failed.value.errno == errno.EIO
