"""Compressed streams and digests."""

from __future__ import annotations

import gzip
import hashlib
import io

import pytest
import zstandard

from tests.store.tars import joined
from unionfs.store.compression import compression_of, decompressed, gzipped
from unionfs.store.digest import HashingReader, digest_of, parse_digest
from unionfs.store.errors import CorruptError

DATA = b"content " * 300_000
FORMS = {
    "plain": DATA,
    "gzip": gzip.compress(DATA),
    "gzip, two members": gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]),
    "zstd": zstandard.compress(DATA),
    "zstd, two frames": zstandard.compress(DATA[:1000]) + zstandard.compress(DATA[1000:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_was_compressed_is_read_whatever_the_form(form: str) -> None:
    assert compression_of(FORMS[form][:4]) == form.partition(",")[0]
    assert decompressed(io.BytesIO(FORMS[form]), "blob").read() == DATA


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_truncated_stream_is_corrupt(form: str) -> None:
    with pytest.raises(CorruptError, match=r"^blob: truncated or corrupt"):
        decompressed(io.BytesIO(FORMS[form][:-20]), "blob").read()


def test_damaged_gzip_is_corrupt() -> None:
    damaged = bytearray(FORMS["gzip"])
    damaged[-6] ^= 1
    with pytest.raises(CorruptError, match=r"^blob: "):
        decompressed(io.BytesIO(bytes(damaged)), "blob").read()


def test_compressing_gives_the_same_bytes_each_time() -> None:
    first = joined(gzipped([DATA[:100], DATA[100:]]))
    assert first == joined(gzipped([DATA]))
    assert gzip.decompress(first) == DATA


def test_reader_hashes_what_it_reads() -> None:
    reader = HashingReader(io.BytesIO(DATA))
    assert reader.read(10) == DATA[:10]
    reader.drain()
    assert (reader.count, reader.digest) == (len(DATA), digest_of(DATA))


def test_digest_is_parsed_and_shortened() -> None:
    text = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    assert parse_digest(text).short == "e3b0c44298fc"


@pytest.mark.parametrize("text", ["", "sha256:12", f"sha512:{'0' * 64}", f"sha256:{'G' * 64}", f"sha256:{'0' * 64}\n", None, 7])
def test_what_is_no_digest_is_corrupt(text: object) -> None:
    with pytest.raises(CorruptError, match=r"^manifest: .*is no sha256 digest"):
        parse_digest(text, "manifest")
