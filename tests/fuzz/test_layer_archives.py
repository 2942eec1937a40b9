"""Whatever an archive holds: nothing but a StoreError, nothing outside of the layer, and what is unpacked comes out as it was."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
import zstandard
from hypothesis import example, given

from tests.fuzz.bounds import bounded
from tests.fuzz.effort import effort
from tests.fuzz.strategies import damaged
from tests.store.archive.conftest import Bench
from tests.store.tars import Entry, directory, entry, hard_link, joined, stream, symlink, tar_of, xattrs
from unionfs.store.compression import decompressed
from unionfs.store.errors import CorruptError, StoreError
from unionfs.store.recipe import reassemble

SOUND = tar_of(
    directory("d", pax_headers={"mtime": "5.5"}),
    entry("d/f", b"c" * 1400, pax_headers=xattrs(user__a=b"v")),
    symlink("s", "d"),
    hard_link("l", "d/f"),
    entry(".wh.x"),
)
NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "s"]), min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.GNUTYPE_SPARSE,
    ]
)
NUMBERS = ("0", "-1", "1", "1.5", "nan", "inf", "1e999", "9" * 400, "9" * 5000, "99999999999999999999", "", "x", "0x10", "²")
PAX_KEYS: tuple[str, ...] = (
    "size",
    "path",
    "linkpath",
    "mtime",
    "atime",
    "uid",
    "gid",
    "uname",
    "hdrcharset",
    "GNU.sparse.major",
    "GNU.sparse.map",
)
PAX_KEYS += ("GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.name", "GNU.sparse.numblocks", "GNU.sparse.minor")
PAX_KEYS += ("SCHILY.xattr.user.a", "SCHILY.xattr.trusted.overlay.redirect", "SCHILY.xattr.", "SCHILY.xattr.security.capability")
PAX_KEYS += ("SCHILY.xattr.user." + "x" * 300, "SCHILY.acl.access", "LIBARCHIVE.xattr.user.b", "SCHILY.fflags")
PAX = st.dictionaries(
    st.sampled_from(PAX_KEYS),
    st.sampled_from([*NUMBERS, "0,1", "1,0,0,1", "../x", "/etc/x", "a\0b", "BINARY", "=", "v" * 70_000]),
    max_size=2,
)
ENTRIES = st.builds(
    lambda name, kind, target, content, pax: entry(
        name, content if kind == tarfile.REGTYPE else b"", kind, linkname=target, devminor=3, pax_headers=pax
    ),
    NAMES,
    KINDS,
    NAMES | st.sampled_from(["/", "../.."]),
    st.sampled_from([b"", b"1", b"x" * 512, b"y" * 1500]),
    st.just({}) | PAX,
)


def unpack_anything(base: Path, data: bytes) -> None:
    bench = Bench(base / "layer")
    (base / "outside").write_text("untouched")
    with contextlib.suppress(StoreError), bounded():
        bench.unpack_bytes(data)
    assert sorted(os.listdir(base)) == ["layer", "outside"]
    assert (base / "outside").read_text() == "untouched"
    assert set(os.listdir(bench.directory)) <= {"diff", "recipe", "recipe.replaced"}


@effort(100)
@given(entries=st.lists(ENTRIES, max_size=8))
def test_random_entries_stay_in_the_layer(new_directory: Callable[..., Path], entries: list[Entry]) -> None:
    unpack_anything(new_directory(), tar_of(*entries))


def with_good_checksums(data: bytes) -> bytes:
    """So that damage gets past the first check of a header."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - 511, 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(blocks[start : start + 512])
    return bytes(blocks)


@effort(100)
@given(
    damage=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    is_summed=st.booleans(),
    cut=st.integers(0, len(SOUND)) | st.just(len(SOUND)),
)
def test_random_damage_raises_nothing_but_store_errors(
    new_directory: Callable[..., Path], damage: list[tuple[int, int]], is_summed: bool, cut: int
) -> None:
    data = bytearray(SOUND)
    for position, value in damage:
        data[position] = value
    unpack_anything(new_directory(), (with_good_checksums(bytes(data)) if is_summed else bytes(data))[:cut])


def header_of(size: int, kind: bytes) -> bytes:
    """A header that says that so many bytes follow, in base 256 where octal digits have no room."""
    info = tarfile.TarInfo("x")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


HUGE = st.sampled_from([1 << 24, 1 << 30, 1 << 33, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 70])
LONG_KINDS = st.sampled_from([tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"V", b"0"])


@effort(40)
@given(size=HUGE, kind=LONG_KINDS, times=st.sampled_from([1, 2, 2000]))
def test_headers_that_announce_much_take_no_memory(
    new_directory: Callable[..., Path], size: int, kind: bytes, times: int
) -> None:
    unpack_anything(new_directory(), header_of(size, kind) * times + bytes(2048))


# -- recipes and compression ------------------------------------------------------------------------------------------------


@effort(100)
@given(data=st.data())
def test_damaged_recipe_gives_other_bytes_or_is_corrupt(new_directory: Callable[..., Path], data: st.DataObject) -> None:

    bench = Bench(new_directory() / "layer")
    bench.unpack_bytes(SOUND)
    records = zlib.decompress(bench.recipe.read_bytes())
    changed = data.draw(damaged(records).map(zlib.compress) | damaged(bench.recipe.read_bytes()))
    bench.recipe.write_bytes(changed)
    with contextlib.suppress(CorruptError), bounded():
        joined(reassemble(bench.diff, bench.recipe))


SIZE_OF_MUCH = 160 << 20
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.ZstdCompressor().compress,
}


@effort(100)
@given(data=st.sampled_from(list(COMPRESSORS)).flatmap(lambda name: damaged(COMPRESSORS[name](b"some text " * 50))))
@example(gzip.compress(b"a") + gzip.compress(b"b"))
@example(b"\x28\xb5\x2f\xfd")
@example(b"\x1f\x8b")
def test_damaged_compression_is_read_or_corrupt(data: bytes) -> None:
    with contextlib.suppress(CorruptError), bounded():
        decompressed(stream(data), "thing").read()


@pytest.mark.parametrize("name", COMPRESSORS)
def test_content_that_grows_a_thousandfold_takes_no_memory(name: str) -> None:
    small = COMPRESSORS[name](bytes(SIZE_OF_MUCH))
    assert len(small) < 1 << 20
    content = decompressed(stream(small), "thing")
    with bounded(memory=96 << 20):
        count = 0
        while data := content.read(1 << 20):
            count += len(data)
    assert count == SIZE_OF_MUCH
