"""Archives that attack the unpacker, besides those of tests/store/archive/test_refusals.py."""

from __future__ import annotations

import gzip
import os
import resource
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from tests.security.outside import Outside
from tests.store.archive.conftest import Bench
from tests.store.tars import Entry, directory, entry, hard_link, stream, symlink, xattrs
from unionfs.store.compression import decompressed
from unionfs.store.errors import CorruptError, RefusedEntryError, StoreError
from unionfs.store.sources.archive import _has_mark, import_image
from unionfs.store.store import Store
from unionfs.store.unpack import unpack_layer


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "layer")


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside")


def attacks(outside: str) -> dict[str, list[Entry]]:
    """Two steps each: the first makes something harmless, the second uses it."""
    return {
        "hard link by way of a link to a directory": [symlink("l", outside), hard_link("h", "l/f")],
        "hard link by way of two links": [symlink("a", outside), symlink("b", "a"), hard_link("h", "b/f")],
        "hard link by way of a link in a directory": [directory("x"), symlink("x/l", f"{outside}/d"), hard_link("h", "x/l/f")],
        "file below a link that replaced a directory": [directory("d"), entry("d/f"), symlink("d", outside), entry("d/f", b"x")],
        "file below a link made by a hard link": [symlink("l", outside), hard_link("m", "l"), entry("m/f", b"x")],
        "directory over a link, then below": [symlink("l", outside), entry("l/d/f", b"x")],
        "whiteout below a hard-linked link": [symlink("l", outside), hard_link("m", "l"), entry("m/.wh.f")],
        "fifo below a link": [symlink("l", outside), entry("l/new", kind=tarfile.FIFOTYPE)],
        "link below a link": [symlink("l", outside), symlink("l/new", "/")],
        "deep": [entry("d/" * 100_000 + "f", b"x")],
        "deep directories": [directory("d/" * 300)],
        "name of 10 kB": [entry("n" * 10_240, b"x")],
        "name of 1 MB in components": [entry("n/" * 500_000, b"x")],
        "target of a link of 10 kB": [symlink("l", "t" * 10_240)],
    }


@pytest.mark.parametrize("what", list(attacks("")))
def test_archive_that_attacks_in_two_steps_is_refused(bench: Bench, outside: Outside, what: str) -> None:
    with pytest.raises((RefusedEntryError, CorruptError)):
        bench.unpack(*attacks(str(outside.path))[what])
    assert outside.changes == []


def test_entry_over_a_link_takes_its_place_and_not_that_of_its_target(bench: Bench, outside: Outside) -> None:
    bench.unpack(
        symlink("f", str(outside.path / "f")),
        entry("f", b"mine", mode=0o4755),
        symlink("d", str(outside.path / "d")),
        directory("d", mode=0o700),
        entry("d/new", b"mine"),
    )
    assert outside.changes == []
    assert (bench.diff / "f").read_bytes() == b"mine"
    assert not (bench.diff / "d").is_symlink()


def test_metadata_of_a_link_is_its_own(bench: Bench, outside: Outside) -> None:
    made, content = symlink("l", str(outside.path / "f"))
    made.uid, made.gid, made.mode, made.mtime = 4711, 4711, 0o4777, 12345
    made.pax_headers = dict(xattrs(trusted__mine=b"x"))
    bench.unpack((made, content), hard_link("m", "l"))
    assert outside.changes == []
    assert (bench.diff / "m").lstat().st_uid == 4711


def test_attributes_of_the_union_in_an_archive_are_escaped(bench: Bench) -> None:
    """An image must not say of its directories that they are merged with something else."""
    forged = xattrs(trusted__overlay__redirect=b"/../..", trusted__overlay__opaque=b"y", trusted__overlay__metacopy=b"")
    bench.unpack(directory("d", pax_headers=dict(forged)), entry("f", b"x", pax_headers=dict(forged)))
    for name in ("d", "f"):
        private = [each for each in os.listxattr(bench.diff / name) if not each.startswith("trusted.overlay.overlay.")]
        assert private == []


def test_sparse_file_of_an_exabyte_takes_no_room(bench: Bench) -> None:
    size = 1 << 60
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": str(size)}
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    try:
        bench.unpack(entry("GNUSparseFile.0/f", content, pax_headers=headers))
    except (RefusedEntryError, StoreError):
        return  # more than the filesystem's largest file: told by name
    assert (bench.diff / "f").stat().st_blocks < 64


def test_map_of_a_sparse_file_that_does_not_end_is_told(bench: Bench) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": "9"}
    content = b"99999999999\n" + b"0\n0\n" * 200
    with pytest.raises(CorruptError, match=r"some\.tar"):
        bench.unpack(entry("GNUSparseFile.0/f", content, pax_headers=headers))


def test_bomb_of_zeros_takes_neither_memory_nor_room(tmp_path: Path) -> None:
    """64 MiB of zeros in 64 KiB: unpacked piece by piece, and left out as a hole."""
    size = 64 << 20
    header = entry("zeros")[0]
    header.size = size
    bomb = gzip.compress(header.tobuf() + bytes(size) + bytes(1024), 1)
    assert len(bomb) < size // 100
    diff = tmp_path / "diff"
    diff.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unpack_layer(decompressed(stream(bomb), "bomb"), diff, tmp_path / "recipe", thing="bomb")
    assert (diff / "zeros").stat().st_size == size
    assert (diff / "zeros").stat().st_blocks == 0
    # In KiB.  The pieces are 1 MiB; a copy of the whole would be 64.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 96 << 10


def test_bomb_in_an_extended_header_is_told_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("h")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    bomb = gzip.compress(info.tobuf() + bytes(1 << 20), 1)
    (tmp_path / "diff").mkdir()
    with pytest.raises(CorruptError, match=r"bomb"):
        unpack_layer(decompressed(stream(bomb), "bomb"), tmp_path / "diff", tmp_path / "recipe", thing="bomb")


def test_bomb_in_an_extended_header_of_an_image_takes_no_memory(tmp_path: Path) -> None:
    """Whether it is an image must be found out before anything is unpacked."""
    info = tarfile.TarInfo("h")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(info.tobuf() + bytes(96 << 20), 1))
    with Store(tmp_path / "store") as store:
        tracemalloc.start()
        try:
            with pytest.raises(CorruptError, match=r"bomb\.tar\.gz"):
                import_image(store, bomb, None)
            assert tracemalloc.get_traced_memory()[1] < 48 << 20
        finally:
            tracemalloc.stop()
        assert not list(store.staging.iterdir())


def test_very_many_members_of_a_compressed_archive_take_no_memory(tmp_path: Path) -> None:
    member, _ = directory("d")
    archive = tmp_path / "many.tar.gz"
    archive.write_bytes(gzip.compress(member.tobuf() * 20_000 + bytes(1024), 1))
    tracemalloc.start()
    try:
        with archive.open("rb") as file:
            assert not _has_mark(file, archive)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_bomb_of_zstd_takes_no_memory() -> None:
    """128 MiB of zeros in some KiB."""
    size = 128 << 20
    header = entry("zeros")[0]
    header.size = size
    compressor = zstandard.ZstdCompressor().compressobj()
    zeros = bytes(1 << 20)
    bomb = b"".join([compressor.compress(header.tobuf()), *(compressor.compress(zeros) for _ in range(size >> 20))])
    bomb += compressor.compress(bytes(1024)) + compressor.flush()
    assert len(bomb) < size // 1000
    source = decompressed(stream(bomb), "bomb")
    tracemalloc.start()
    try:
        while source.read(1 << 16):
            if tracemalloc.get_traced_memory()[1] > 96 << 20:
                break
        assert tracemalloc.get_traced_memory()[1] < 96 << 20
    finally:
        tracemalloc.stop()
