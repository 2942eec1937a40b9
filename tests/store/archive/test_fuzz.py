"""Whatever an archive holds: nothing but a StoreError, nothing outside of the layer, and what is unpacked comes out as it was."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st

from tests.store.archive.conftest import Bench
from tests.store.tars import Entry, directory, entry, hard_link, symlink, tar_of
from unionfs.store.errors import StoreError

SOUND = tar_of(
    directory("d", pax_headers={"mtime": "5.5"}),
    entry("d/f", b"c" * 1400),
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
ENTRIES = st.builds(
    lambda name, kind, target, content: entry(
        name, content if kind == tarfile.REGTYPE else b"", kind, linkname=target, devminor=3
    ),
    NAMES,
    KINDS,
    NAMES | st.sampled_from(["/", "../.."]),
    st.sampled_from([b"", b"1", b"x" * 512, b"y" * 1500]),
)
OFTEN = hypothesis.settings(max_examples=150)


def unpack_anything(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        bench = Bench(base / "layer")
        (base / "outside").write_text("untouched")
        with contextlib.suppress(StoreError):
            bench.unpack_bytes(data)
        assert sorted(os.listdir(base)) == ["layer", "outside"]
        assert (base / "outside").read_text() == "untouched"
        assert set(os.listdir(bench.directory)) <= {"diff", "recipe", "recipe.replaced"}


@OFTEN
@hypothesis.given(entries=st.lists(ENTRIES, max_size=8))
def test_random_entries_stay_in_the_layer(entries: list[Entry]) -> None:
    unpack_anything(tar_of(*entries))


def with_good_checksums(data: bytes) -> bytes:
    """So that damage gets past the first check of a header."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - 511, 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(blocks[start : start + 512])
    return bytes(blocks)


@OFTEN
@hypothesis.given(
    damage=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    is_summed=st.booleans(),
    cut=st.integers(0, len(SOUND)) | st.just(len(SOUND)),
)
def test_random_damage_raises_nothing_but_store_errors(damage: list[tuple[int, int]], is_summed: bool, cut: int) -> None:
    data = bytearray(SOUND)
    for position, value in damage:
        data[position] = value
    unpack_anything((with_good_checksums(bytes(data)) if is_summed else bytes(data))[:cut])
